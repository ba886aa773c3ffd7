import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const SRC = fileURLToPath(new URL('../src/', import.meta.url))
/** A folder may import from those after it, and nothing may import from those before it. */
const ORDER = ['cli', 'ops', 'agent', 'join', 'sessions', 'auth', 'livekit', 'store', 'http']
/** The rules and their types: no HTTP, SQL or LiveKit wire format. */
const RULES = [
  'sessions/lifecycle.ts',
  'sessions/participants.ts',
  'sessions/sessions.ts',
  'sessions/removal-order.ts',
  'store/sessions.ts',
  'auth/refresh.ts',
  'auth/rotation.ts',
  'clock.ts',
  'errors.ts',
]

interface Arrow {
  from: string
  to: string
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
const folderOf = (file: string) => (file.includes('/') ? file.slice(0, file.indexOf('/')) : '')

/** Every import of every file: relative ones as a path in `src`, others as the package's name. */
const arrows: Arrow[] = files.flatMap((from) => {
  const text = readFileSync(join(SRC, from), 'utf8')
  const imported = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(([, to = '']) => to)
  return imported.map((to) => ({ from, to: to.startsWith('.') ? normalize(join(dirname(from), to)) : to }))
})

const shown = ({ from, to }: Arrow) => `${from} -> ${to}`

/** Arrows between folders that go back up, which every cycle has. */
function upward(all: readonly Arrow[]): string[] {
  const place = (file: string) => ORDER.indexOf(folderOf(file))
  return all.filter(({ from, to }) => place(from) >= 0 && place(to) >= 0 && place(to) < place(from)).map(shown)
}

describe('the folders of src', () => {
  test('are listed in the code tour', () => {
    expect([...new Set(files.map(folderOf))].filter(Boolean).sort()).toEqual([...ORDER].sort())
  })

  test('import only from those below them, so that no two import each other', () => {
    expect(upward(arrows)).toEqual([])
  })

  test('are really checked: an upward import is found', () => {
    const cycle = [
      { from: 'sessions/liveness.ts', to: 'livekit/livekit.ts' },
      { from: 'livekit/client.ts', to: 'sessions/lifecycle.ts' },
    ]
    expect(upward(cycle)).toEqual(['livekit/client.ts -> sessions/lifecycle.ts'])
    expect(arrows.length).toBeGreaterThan(300)
  })

  test.each(['POST /agent/progress', 'POST /token'])('can be read along %s in few files and lines', (request) => {
    const tour = readFileSync(join(SRC, '../docs/code-tour.md'), 'utf8')
    const [, way = ''] = tour.split(`- \`${request}\`: `)
    const read = [...(way.split(/\n(?:-|\n)/)[0] ?? '').matchAll(/`([\w/-]+\.ts)`/g)].map(([, file = '']) => file)
    const lines = read.flatMap((file) => readFileSync(join(SRC, file), 'utf8').trimEnd().split('\n'))
    expect(read.length).toBeGreaterThan(5)
    expect(read.length).toBeLessThan(10)
    expect(lines.length).toBeLessThan(1250)
  })

  test('keep SQL in store/sqlite and store/postgres', () => {
    const sql = arrows.filter(({ to }) => /^(drizzle-orm|better-sqlite3|pg$)/.test(to))
    expect(sql.length).toBeGreaterThan(10)
    expect(sql.filter(({ from }) => !/^store\/(sqlite|postgres)\//.test(from)).map(shown)).toEqual([])
  })

  test('keep HTTP out of the rules', () => {
    for (const rule of RULES) expect(files).toContain(rule)
    const http = arrows.filter(({ from, to }) => RULES.includes(from) && /^(@?hono|http\/(?!problem-codes))/.test(to))
    expect(http.map(shown)).toEqual([])
  })
})
