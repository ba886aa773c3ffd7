import { chromiumBinary } from './chromium.ts'

/** Says once that the suite is skipped; where skipping is not allowed, that ends the run. The rest says e2e's setup. */
export default function setup(): void {
  if (chromiumBinary()) return
  const line = 'skipped: no Chromium (set CHROMIUM, or put chromium on PATH)'
  console.log(line)
  if (process.env.CI === 'true' || process.env.BEHALF_REQUIRE_ALL === '1') {
    throw new Error(`Nothing may be skipped here: ${line}`)
  }
}
