import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import { callingScene, refusal } from './scene.ts'

describe('the reads of one user', () => {
  /** Requests whose answers stay unread until the test reads them. */
  async function reader() {
    const scene = await callingScene()
    const { s, user, pair } = scene
    const taken: Array<() => void> = []
    const read = async (path: string, bearer = user.bearer, accept = '*/*') => {
      const outgoing = new ServerResponse(new IncomingMessage(new Socket()))
      taken.push(() => Object.assign(outgoing, { destroyed: true }).emit('close'))
      return s.app.request(path, { headers: { Authorization: `Bearer ${bearer}`, Accept: accept } }, { outgoing })
    }
    return { ...scene, read, taken, own: `/sessions/${pair.sessionId}` }
  }

  test('are at most six until their answers are read, and further ones wait', async () => {
    const { s, read, taken, own } = await reader()
    const paths = ['/sessions', own, `${own}/events`, `${own}/audit`, '/auth/me', own]
    for (const path of paths) expect((await read(path)).status, path).toBe(200)
    let answered = 0
    const waiting = [`${own}/events`, own].map((path) => read(path).then(({ status }) => [++answered, status]))
    const other = await s.present()
    const ofOther = () => read(`/sessions/${other.pair.sessionId}/events`, other.user.bearer)
    expect((await ofOther()).status).toBe(200)
    expect(answered).toBe(0)
    taken[2]?.()
    expect(await Promise.race(waiting)).toEqual([1, 200])
    await ofOther()
    expect(answered).toBe(1)
    taken[0]?.()
    expect(new Set(await Promise.all(waiting))).toEqual(
      new Set([
        [1, 200],
        [2, 200],
      ]),
    )
  })

  test('are refused when more than sixty wait', async () => {
    const { read, taken, own, s } = await reader()
    for (let i = 0; i < 6; i++) expect((await read(own)).status).toBe(200)
    const waiting = Array.from({ length: 61 }, () => read(own))
    const refused = await Promise.race(waiting)
    expect(refused.headers.get('Retry-After')).toBe('1')
    expect(await refusal(refused)).toEqual({ status: 429, code: 'rate_limited' })
    expect((await read('/sessions', (await s.newUser()).bearer)).status).toBe(200)
    // Requests aborted while they wait free their place as well.
    for (const take of taken) take()
    const answers = (await Promise.all(waiting)).map(({ status }) => status)
    expect(answers.filter((status) => status === 200)).toHaveLength(60)
  })

  test('do not count event streams', async () => {
    const { s, read, taken, own } = await reader()
    expect((await read(own)).status).toBe(200)
    for (let i = 0; i < 7; i++) {
      const stream = await read(`${own}/events`, undefined, 'text/event-stream')
      expect(stream.headers.get('Content-Type')).toBe('text/event-stream')
    }
    for (let i = 0; i < 5; i++) expect((await read(own)).status).toBe(200)
    // The end of a stream does not free a place for a read.
    for (const end of taken.slice(1, 8)) end()
    let isAnswered = false
    const waiting = read(own).finally(() => {
      isAnswered = true
    })
    await read('/sessions', (await s.newUser()).bearer)
    expect(isAnswered).toBe(false)
    taken[0]?.()
    expect((await waiting).status).toBe(200)
  })
})
