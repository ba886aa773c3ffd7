// Sums vitest's JSON reports into one line. A report that is missing, or a file that could not be loaded, is a failure.
import { existsSync, readFileSync } from 'node:fs'

const results = process.argv
  .slice(2)
  .flatMap((file) => (existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).testResults : [{ status: 'failed' }]))

const count = { passed: 0, failed: 0, skipped: 0 }
for (const { status, assertionResults = [] } of results) {
  for (const test of assertionResults) {
    if (test.status === 'passed' || test.status === 'failed') count[test.status] += 1
    else count.skipped += 1
  }
  if (status === 'failed' && !assertionResults.some((test) => test.status === 'failed')) count.failed += 1
}

process.stdout.write(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`)
process.exitCode = count.passed > 0 && count.failed === 0 && count.skipped === 0 ? 0 : 1
