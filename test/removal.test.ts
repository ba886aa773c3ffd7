import { describe, expect, test } from 'vitest'
import { type Minted, type Scene, type SignedIn, scene } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import type { SfuParticipant } from './sfu-rooms.ts'

const TUTOR = { room_config: { agents: [{ agent_name: 'tutor' }] } }

/** A call under way: its user and its dispatched agent are in the room. */
async function call(request: Record<string, unknown> = TUTOR) {
  const s = await scene()
  await s.accounts.create('tutor', [])
  s.sfu.workers.add('tutor')
  const { user, leg, ...session } = await s.present(request)
  await postWebhook(s, webhookEvent('participant_joined', leg))
  await s.background.idle()
  return { s, user, session }
}

async function hangUp(s: Scene, { bearer }: SignedIn, { pair }: Minted) {
  const headers = { Authorization: `Bearer ${bearer}` }
  expect((await s.app.request(`/sessions/${pair.sessionId}`, { method: 'DELETE', headers })).status).toBe(200)
  await s.background.idle()
}

const identitiesIn = ({ sfu }: Scene, room: string) => [...(sfu.rooms.get(room)?.participants.keys() ?? [])]

describe('when a user hangs up, the room', () => {
  test.each<[string, Partial<SfuParticipant>]>([
    ['a phone caller', { kind: 'SIP' }],
    ['a recorder', { kind: 'EGRESS' }],
    ['a supervisor of another system', { attributes: { role: 'supervisor' } }],
    ['somebody whose attributes name an unknown session', { attributes: { sessionId: 'sess_of_another_system' } }],
  ])('stays open for %s, without the user and the agent', async (_, given) => {
    const { s, user, session } = await call()
    s.sfu.enter(session.room, { identity: 'other', ...given })
    expect(identitiesIn(s, session.room)).toHaveLength(3)
    await hangUp(s, user, session)
    expect(identitiesIn(s, session.room)).toEqual(['other'])
    expect(s.sfu.rooms.get(session.room)?.dispatches.filter(({ agentName }) => agentName)).toEqual([])
    expect(await s.store.sessions.listToRemove()).toEqual([])
    await s.reconcile()
    expect(identitiesIn(s, session.room)).toEqual(['other'])
  })

  test('is deleted with its agents when nothing else needs it', async () => {
    const { s, user, session } = await call()
    s.sfu.enter(session.room, { identity: 'agent-of-another-system', kind: 'AGENT' })
    s.sfu.join(session.joinToken, { identity: `${user.id}#screen` })
    await hangUp(s, user, session)
    expect(s.sfu.rooms.has(session.room)).toBe(false)
  })

  test('loses that session’s agent only, while another session is in it', async () => {
    const { s, user, session } = await call({ room: 'lesson', ...TUTOR })
    const other = await s.newSession(user, { room: 'lesson', ...TUTOR })
    const leg = s.sfu.join(other.joinToken, {})
    await s.reconcile()
    await s.background.idle()
    expect(identitiesIn(s, 'lesson')).toHaveLength(3)
    await hangUp(s, user, session)
    const there = [...(s.sfu.rooms.get('lesson')?.participants.values() ?? [])]
    expect(there.find(({ kind }) => kind === 'STANDARD')?.sid).toBe(leg.participant.sid)
    expect(there.filter(({ kind }) => kind === 'AGENT')).toHaveLength(1)
    const dispatches = s.sfu.rooms.get('lesson')?.dispatches.filter(({ agentName }) => agentName)
    expect(dispatches?.map(({ attributes }) => attributes.sessionId)).toEqual([other.pair.sessionId])
  })

  test('is left by the user although LiveKit does not answer for its dispatches, which are ended later', async () => {
    const { s, user, session } = await call()
    s.sfu.enter(session.room, { identity: 'caller', kind: 'SIP' })
    const { alter } = s.sfu
    let isDown = true
    s.sfu.alter = (answer) =>
      isDown && JSON.stringify(answer.body).includes('agent_dispatches')
        ? { status: 503, body: { code: 'unavailable', msg: 'no response from servers' } }
        : alter(answer)
    await hangUp(s, user, session)
    expect(identitiesIn(s, session.room)).not.toContain(user.id)
    expect(identitiesIn(s, session.room)).toHaveLength(2)
    isDown = false
    await s.reconcile()
    expect(identitiesIn(s, session.room)).toEqual(['caller'])
  })
})

test('tokens are revoked up to the end of the session, so that the next session of the same user can be joined', async () => {
  const { s, user, session } = await call()
  s.sfu.enter(session.room, { identity: 'caller', kind: 'SIP' })
  await hangUp(s, user, session)
  const { endedAt } = (await s.store.sessions.find(session.pair.sessionId)) ?? {}
  const removals = s.sfu.questions.filter(({ method }) => method === 'RemoveParticipant')
  expect(removals).toMatchObject([{ identity: user.id, revokeTokenTs: String(Math.floor(Number(endedAt) / 1000)) }])
})
