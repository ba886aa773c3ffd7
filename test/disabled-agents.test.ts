import { describe, expect, test, vi } from 'vitest'
import { AppError } from '../src/errors.ts'
import { scene } from './scene.ts'

const named = (agent_name: string) => ({ room_config: { agents: [{ agent_name }] } })

/** Two calls of `tutor` and one of `coach`, the workers of both, and every way into a room that `tutor` has. */
async function setUp() {
  const s = await scene()
  for (const name of ['tutor', 'coach']) {
    await s.accounts.create(name, [])
    s.sfu.workers.add(name)
  }
  const first = await s.present(named('tutor'))
  const second = await s.present(named('tutor'))
  const other = await s.present(named('coach'))
  s.sfu.enter(other.room, { identity: 'tutor#1', kind: 'AGENT' })
  s.sfu.enter(other.room, { identity: 'supervisor', kind: 'AGENT' })
  const agentsIn = ({ room }: { room: string }) =>
    [...(s.sfu.rooms.get(room)?.participants.values() ?? [])]
      .filter(({ kind }) => kind === 'AGENT')
      .map(({ identity, attributes }) => attributes['lk.agent_name'] ?? identity)
  const pass = async () => {
    s.clock.advance(60)
    await s.reconcile()
    await s.background.idle()
  }
  await pass()
  expect([first, second, other].map(agentsIn)).toEqual([['tutor'], ['tutor'], ['coach', 'tutor#1', 'supervisor']])
  return { s, first, second, other, agentsIn, pass }
}

describe('an agent whose account is disabled', () => {
  test('is removed from all rooms at the next comparison, though its worker is gone, and no one else is', async () => {
    const { s, first, second, other, agentsIn, pass } = await setUp()
    await s.accounts.disable('tutor')
    s.sfu.workers.delete('tutor')
    await pass()
    expect([first, second, other].map(agentsIn)).toEqual([[], [], ['coach', 'supervisor']])
    expect((await s.sessionOf(first.user, first.pair)).status).toBe('live')
    await s.accounts.enable('tutor')
    s.sfu.workers.add('tutor')
    await pass()
    expect([first, second].map(agentsIn)).toEqual([['tutor'], ['tutor']])
  })

  test('is known by its job, whatever it says about itself, also when it comes back', async () => {
    const { s, first, agentsIn, pass } = await setUp()
    const there = [...(s.sfu.rooms.get(first.room)?.participants.values() ?? [])]
    const { identity } = there.find(({ kind }) => kind === 'AGENT') ?? {}
    if (identity === undefined) throw new Error('There is no agent')
    await s.accounts.disable('tutor')
    s.sfu.workers.delete('tutor')
    for (let i = 0; i < 2; i++) {
      s.sfu.enter(first.room, { identity, kind: 'AGENT', attributes: { 'lk.agent_name': 'coach' } })
      expect(agentsIn(first)).toEqual(['coach'])
      await pass()
      expect(agentsIn(first)).toEqual([])
    }
  })

  test('is removed at the comparison after one in which LiveKit failed', async () => {
    const { s, first, agentsIn, pass } = await setUp()
    await s.accounts.disable('tutor')
    s.sfu.workers.delete('tutor')
    const down = new AppError('livekit_unavailable', 'LiveKit did not answer.')
    const failing = vi.spyOn(s.livekit, 'removeParticipant').mockRejectedValue(down)
    await pass()
    expect(agentsIn(first)).toEqual(['tutor'])
    failing.mockRestore()
    await pass()
    expect(agentsIn(first)).toEqual([])
  })
})
