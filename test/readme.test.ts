import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const REPOSITORY = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFile(join(REPOSITORY, path), 'utf8')
const PAGES = [
  'README.md',
  'SECURITY.md',
  'docs/agent.md',
  'docs/code-tour.md',
  'docs/frontend.md',
  'docs/operations.md',
  'docs/postgres.md',
  'docs/walk-through.md',
  'examples/agent-python/README.md',
  'packages/python/README.md',
]

test.each([
  ['README.md', 3],
  ['docs/agent.md', 1],
  ['packages/python/README.md', 1],
])('%s quotes its examples (%i) as they are in their files', async (page, count) => {
  const quotes = [...(await read(page)).matchAll(/<!-- file: (\S+) -->\n```\w+\n([\s\S]*?)```/g)]
  expect(quotes.map(([, path]) => path)).toHaveLength(count)
  for (const [, path = '', quote] of quotes) expect(await read(path), path).toContain(quote)
})

test('docs/operations.md gives the defaults of .env.example', async () => {
  const example = await read('.env.example')
  const rows = [...(await read('docs/operations.md')).matchAll(/^\| `([A-Z_]+)` \| `?([^`|]+?)`? \|/gm)]
  const plain = rows.filter(([, , value = '']) => /^(\d+|file:.*|http:.*)$/.test(value))
  expect(plain.length).toBeGreaterThan(5)
  for (const [, name, value] of plain) expect(example).toContain(`# ${name}=${value}\n`)
})

test.each(PAGES)('the relative links of %s lead to files and headings that exist', async (page) => {
  const links = [...(await read(page)).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)]
  for (const [link, path = '', heading] of links) {
    const target = path === '' ? page : join(dirname(page), path)
    expect(existsSync(join(REPOSITORY, target)), link).toBe(true)
    if (heading !== undefined) expect(anchors(await read(target)), link).toContain(heading)
  }
})

/** As GitHub names a page's headings. */
const anchors = (markdown: string) =>
  [...markdown.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
