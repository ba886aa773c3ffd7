import { liveKitServer, workerInstalled } from '../e2e/binaries.ts'
import { chromiumBinary } from './chromium.ts'

/** Says once what will be skipped; where skipping is not allowed, that ends the run. */
export default function setup(): void {
  const skipped = [
    ...(chromiumBinary() ? [] : ['skipped: no Chromium (set CHROMIUM, or put chromium on PATH)']),
    ...(liveKitServer() ? [] : ['skipped: the browser suite, for want of a livekit-server']),
    ...(workerInstalled() ? [] : ['skipped: the demo page, for want of an installed examples/agent-ts']),
  ]
  if (skipped.length === 0) return
  for (const line of skipped) console.log(line)
  if (process.env.CI === 'true' || process.env.BEHALF_REQUIRE_ALL === '1') {
    throw new Error(`Nothing may be skipped here:\n${skipped.join('\n')}`)
  }
}
