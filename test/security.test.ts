import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'

const HERE = new URL('.', import.meta.url)
const SECURITY = readFileSync(new URL('../SECURITY.md', HERE), 'utf8')
const rows = [...SECURITY.matchAll(/^\| (A\d\d) \| .+? \| (.+) \|$/gm)].map(([, id = '', tests = '']) => ({
  id,
  tests,
}))

/** `file`: title of every test, and of every group of tests, that carries the number of a statement. */
const numbered = readdirSync(HERE, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .flatMap((path) => titlesIn(path.replace(/(\.test)?\.ts$/, ''), path))

function titlesIn(name: string, path: string): string[] {
  const source = readFileSync(new URL(path, HERE), 'utf8')
  const titles = [...source.matchAll(/(?:(?:test|it|describe)\(|\)\()\s*(['`"])(.*?\(A\d\d.*?\))\1/g)]
  return titles.map(([, , title]) => `\`${name}\`: ${title}`)
}

test('SECURITY.md has every statement once, in order', () => {
  const all = Array.from({ length: 52 }, (_, i) => `A${String(i + 1).padStart(2, '0')}`)
  expect(rows.map(({ id }) => id)).toEqual(all)
})

describe.each(rows)('$id', ({ id, tests }) => {
  test('lists the tests that carry its number, or a reason why it does not apply', () => {
    const own = numbered.filter((reference) => reference.slice(reference.lastIndexOf('(')).includes(id)).sort()
    const listed = tests.startsWith('not applicable: ') ? [] : tests.split('<br>').sort()
    expect(own).toEqual(listed)
    expect(tests).not.toBe('')
  })
})
