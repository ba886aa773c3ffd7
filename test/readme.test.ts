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
  'docs/frontend.md',
  'docs/code-tour.md',
  'examples/agent-python/README.md',
]

test('the README quotes its examples as they are in their files', async () => {
  const quotes = [...(await read('README.md')).matchAll(/<!-- file: (\S+) -->\n```\w+\n([\s\S]*?)```/g)]
  expect(quotes.map(([, path]) => path)).toHaveLength(4)
  for (const [, path = '', quote] of quotes) expect(await read(path), path).toContain(quote)
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
