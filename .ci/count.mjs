// Sums vitest's JSON report into one line. A file that could not even be loaded counts as one failure.
import { existsSync, readFileSync } from 'node:fs'

const [file] = process.argv.slice(2)
const report =
  file && existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { testResults: [{ status: 'failed' }] }

const count = { passed: 0, failed: 0, skipped: 0 }
for (const { status, assertionResults = [] } of report.testResults) {
  for (const test of assertionResults) {
    if (test.status === 'passed' || test.status === 'failed') count[test.status] += 1
    else count.skipped += 1
  }
  if (status === 'failed' && !assertionResults.some((test) => test.status === 'failed')) count.failed += 1
}

process.stdout.write(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`)
process.exitCode = count.passed > 0 && count.failed === 0 && count.skipped === 0 ? 0 : 1
