import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

const SECURITY = readFileSync(new URL('../SECURITY.md', import.meta.url), 'utf8')
const rows = [...SECURITY.matchAll(/^\| (A\d\d) \| (.+?) \| (.+) \|$/gm)].map(([, id = '', , tests = '']) => ({
  id,
  tests,
}))

test('SECURITY.md has every statement once, in order', () => {
  const all = Array.from({ length: 52 }, (_, i) => `A${String(i + 1).padStart(2, '0')}`)
  expect(rows.map(({ id }) => id)).toEqual(all)
})

test.each(rows)('$id has its tests, or a reason why it does not apply', ({ tests }) => {
  if (tests.startsWith('not applicable: ')) return
  for (const reference of tests.split('<br>')) {
    const [, name = '', title = ''] = /^`([\w/-]+)`: (.+)$/.exec(reference) ?? []
    const candidates = [`./${name}.test.ts`, `./${name}.ts`].map((path) => new URL(path, import.meta.url))
    const file = candidates.find((candidate) => existsSync(candidate))
    const titles = [
      ...(file ? readFileSync(file, 'utf8') : '').matchAll(/(?:test|describe)\((['`"])(.*?)\1|\)\((['`"])(.*?)\3/g),
    ]
    expect(
      titles.map((match) => match[2] ?? match[4]),
      reference,
    ).toContain(title)
  }
})
