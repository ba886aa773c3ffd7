import { strace } from './strace.ts'

/** Says once what will be skipped; where skipping is not allowed, that ends the run. */
export default function setup(): void {
  if (strace()) return
  console.log('skipped: no strace')
  if (process.env.CI === 'true' || process.env.BEHALF_REQUIRE_ALL === '1') {
    throw new Error('Nothing may be skipped here: install strace')
  }
}
