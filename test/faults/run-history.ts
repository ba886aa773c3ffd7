import { expect } from 'vitest'
import { directSessions } from '../direct-sessions.ts'
import { postWebhook } from '../sfu.ts'
import { post } from '../support.ts'
import type { History, Op } from './history.ts'
import { network, type Webhook } from './network.ts'
import type { Restartable } from './restartable.ts'

export const LIVENESS_SECONDS = 10
/** A refusal is reused for so long. */
const NEGATIVE_MS = 1000

interface Followed {
  id: string
  room: string
  joinToken: string
  /** Ended by us, in the name of the user or the agent. */
  ended: boolean
  /** Whether the service has had any evidence of the user having been there. */
  known: boolean
  refusedAt: number
}

/** Plays a history against the service and the fake SFU; throws where the service differs from the SFU's truth. */
export async function runHistory(service: Restartable, history: History): Promise<void> {
  const { shared, ops, fates, leftOver, rightLiveKit } = history
  const { sfu, clock } = service
  const user = await service.newUser()
  let agent = await service.agentToken()
  /** Only the wall clock shows the time that passed while the service was stopped: deadlines may have passed. */
  let mayHaveEnded = false
  const first = await service.session(user.bearer, {})
  const second = await service.session(user.bearer, shared ? { room: first.room } : {})
  const fresh = { ended: false, known: false, refusedAt: Number.NEGATIVE_INFINITY }
  const sessions: Followed[] = [
    { ...first, ...fresh },
    { ...second, ...fresh },
  ]
  const net = network(sfu, clock.right, fates)
  const isThere = ({ id }: Followed) => net.isThere(user.id, id)
  const progress = ({ id }: Followed) =>
    post(service.app().app, '/agent/progress', { userId: user.id, sessionId: id, data: {} }, agent)

  async function call(session: Followed): Promise<void> {
    const wasThere = isThere(session)
    const { status } = await progress(session)
    await service.app().background.idle()
    net.look(user.id)
    if (status === 201) {
      expect(session.ended, 'accepted for an ended session').toBe(false)
      const goneFor = clock.right() - net.lastThere(session.id)
      expect(goneFor, 'accepted, gone for ms').toBeLessThanOrEqual(LIVENESS_SECONDS * 1000)
      session.known = true
      return
    }
    expect(status === 409 || (status === 503 && (sfu.mode !== 'ok' || !isThere(session))), `${status}`).toBe(true)
    const negative = clock.right() - session.refusedAt < NEGATIVE_MS
    const entitled = wasThere && isThere(session) && sfu.mode === 'ok' && !session.ended && !negative
    expect(entitled, 'refused in vain').toBe(false)
    session.refusedAt = clock.right()
  }

  async function deliver(pick: number): Promise<void> {
    const [webhook] = net.pool.splice(pick % Math.max(1, net.pool.length), 1)
    if (!webhook) return
    const off = (clock.now() - clock.right()) / 1000
    const isTaken = !rightLiveKit || (off >= -60 && off < 360)
    const answer = await postWebhook(service.app(), webhook.body, rightLiveKit ? clock.right() : clock.now())
    expect(answer.status).toBe(isTaken ? 200 : 401)
    if (!isTaken) return
    await service.app().background.idle()
    const session = sessions.find(({ id }) => id === webhook.about?.attributes.sessionId)
    if (session && !session.ended && isEvidence(webhook, user.id)) session.known = true
  }

  async function reconcile(): Promise<void> {
    const complete = await service.app().reconcile()
    await service.app().background.idle()
    expect(complete).toBe(sfu.mode === 'ok')
    for (const session of sessions) if (complete && !session.ended && isThere(session)) session.known = true
    net.look(user.id)
  }

  async function pass(seconds: number): Promise<void> {
    net.look(user.id)
    clock.advance(seconds)
    net.look(user.id)
  }

  /** No session ends by itself while its user is in the room. */
  async function expectNoneEndedWhileThere(): Promise<void> {
    for (const session of sessions) {
      const stored = await service.app().store.sessions.find(session.id)
      if (stored?.status !== 'ended' || session.ended) continue
      const listed = isThere(session) || net.isJoining(user.id, session.id)
      expect(listed, `ended as ${stored.endReason} while there`).toBe(false)
      session.ended = true
    }
  }

  async function play(op: Op): Promise<void> {
    const session = sessions['session' in op ? op.session : 0]
    if (!session) throw new Error('There is no such session')
    switch (op.op) {
      case 'join':
        return void sfu.join(session.joinToken, { state: op.state })
      case 'secondLeg':
        return void sfu.join(session.joinToken, { identity: `${user.id}#x` })
      case 'leave':
        return leave(session)
      case 'finishRoom':
        return void sfu.finishRoom(session.room)
      case 'endAsUser':
        return end(session, `/sessions/${session.id}`)
      case 'endAsAgent':
        return end(session)
      case 'call':
        return call(session)
      case 'callWhileLeaving':
        sfu.before('GetParticipant', () => leave(session))
        await call(session)
        // LiveKit need not have been asked.
        return sfu.before('GetParticipant', () => {})
      case 'deliver':
        return deliver(op.pick)
      case 'pass':
        return pass(op.seconds)
      case 'outage':
        sfu.mode = op.mode
        return
      case 'recover':
        sfu.mode = 'ok'
        return
      case 'reconcile':
        return reconcile()
      case 'step':
        clock.step(op.seconds)
        return signInAgain()
      case 'restart':
        if (op.seconds > 0) mayHaveEnded = true
        await service.restart(op.seconds)
        return signInAgain()
    }
  }

  /** A step ahead ends access tokens early. */
  async function signInAgain(): Promise<void> {
    agent = await service.agentToken()
  }

  function leave({ room, id }: Followed): void {
    const participants = sfu.rooms.get(room)?.participants
    const participant = participants?.get(user.id)
    if (participant?.attributes.sessionId !== id) return
    net.look(user.id)
    participants?.delete(user.id)
  }

  async function end(session: Followed, path?: string): Promise<void> {
    const body = { userId: user.id, sessionId: session.id }
    const { store } = service.app()
    const answer = path
      ? await directSessions(store).end(session.id, 'user')
      : await post(service.app().app, '/agent/session/end', body, agent)
    await service.app().background.idle()
    if (!(answer instanceof Response) || answer.status === 200) session.ended = true
    else session.refusedAt = clock.right()
  }

  for (const op of ops) {
    await play(op)
    net.look(user.id)
    await expectNoneEndedWhileThere()
  }
  sfu.mode = 'ok'
  while (net.pool.length > 0) await deliver(leftOver)
  await settle()

  /**
   * One reconciliation is enough for the guard and for every user in a room. An inferred absence closes a presence only
   * when it is seen twice, so the stored status of one whose `left` was lost needs a second; its end one after
   * RECONNECT_SECONDS.
   */
  async function settle(): Promise<void> {
    await pass(1.001)
    await reconcile()
    await expectNoneEndedWhileThere()
    for (const session of sessions) {
      const { status } = await progress(session)
      expect(status === 201, `after one reconciliation: ${status}`).toBe(isThere(session) && !session.ended)
      const stored = await service.app().store.sessions.find(session.id)
      if (isThere(session) && !session.ended) expect(stored?.status).toBe('live')
      else if (!session.ended) session.refusedAt = clock.right()
    }
    await pass(1.001)
    await reconcile()
    await expectNoneEndedWhileThere()
    for (const session of sessions) await expectSettled(session)
    await pass(61)
    await reconcile()
    for (const session of sessions) {
      const stored = await service.app().store.sessions.find(session.id)
      const away = session.known ? (net.isJoining(user.id, session.id) ? 'disconnected' : 'ended') : 'pending'
      const expected = session.ended ? 'ended' : isThere(session) ? 'live' : away
      expectStatus(stored?.status, expected, 'after RECONNECT_SECONDS')
    }
  }

  function expectStatus(status: string | undefined, expected: string, when: string): void {
    const early = mayHaveEnded && (expected === 'pending' || expected === 'disconnected') ? ['ended'] : []
    expect([expected, ...early], when).toContain(status)
  }

  async function expectSettled(session: Followed): Promise<void> {
    const stored = await service.app().store.sessions.find(session.id)
    const expected = session.ended ? 'ended' : isThere(session) ? 'live' : session.known ? 'disconnected' : 'pending'
    expectStatus(stored?.status, expected, 'after two reconciliations')
    if (session.ended) expect(net.anybodyOf(session.id), 'ended, and still there').toBe(false)
  }
}

const isEvidence = ({ event, about }: Webhook, userId: string) =>
  about?.identity === userId && (event === 'participant_joined' || event === 'participant_left')
