import { dispose } from '@livekit/rtc-node'
import { AccessToken, RoomConfiguration } from 'livekit-server-sdk'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import type { JoinOptions, Participant } from '../scenarios/stack.ts'
import { comparables } from './comparable.ts'
import { until } from './processes.ts'
import { fakeSide, realSide, type Side } from './sides.ts'
import { describeWithLiveKit } from './stack.ts'

/** One LiveKit in one room, where everything that is answered and sent is kept. */
interface Stage {
  room: string
  ask: (method: string, more?: Record<string, unknown>, grants?: 'all' | 'none') => Promise<void>
  /** Resolves when the participant is listed as active. */
  join: (identity: string, more?: JoinOptions & { agent?: boolean }) => Promise<Participant>
  /** Comes no further than signalling; the returned function drops the connection. */
  joinSignalOnly: (identity: string) => Promise<() => void>
  untilGone: (participant: Pick<Participant, 'identity'>) => Promise<void>
  /** Why the participant was disconnected. */
  reason: (participant: Participant) => Promise<void>
}

const GET = 'RoomService/GetParticipant'
const LIST = 'RoomService/ListParticipants'
const REMOVE = 'RoomService/RemoveParticipant'
const DELETE = 'RoomService/DeleteRoom'
const CREATE = 'RoomService/CreateRoom'
const ROOMS = 'RoomService/ListRooms'
const DISPATCH = 'AgentDispatchService/CreateDispatch'
const DISPATCHES = 'AgentDispatchService/ListDispatch'
const UNDISPATCH = 'AgentDispatchService/DeleteDispatch'
const CALL = 'SIP/CreateSIPParticipant'

/** Each ends with the end of its room. */
const ACTS: Record<string, (stage: Stage) => Promise<void>> = {
  'questions about what is not there': async ({ room, ask }) => {
    await ask(ROOMS, { names: [room] })
    await ask(LIST)
    await ask(GET, { identity: 'ada' })
    await ask(REMOVE, { identity: 'ada' })
    await ask(DELETE)
    await ask(DISPATCHES)
    await ask(ROOMS, {}, 'none')
    await ask(DISPATCH, { agentName: 'tutor', metadata: 'level 3' })
    await ask(DISPATCHES)
    await ask(ROOMS, { names: [room] })
    await ask(DELETE)
  },
  'a call without a SIP service': async ({ room, ask }) => {
    await ask(CALL, { sipTrunkId: 'ST_x', sipCallTo: '+4930123456', roomName: room })
    await ask(CREATE, { name: room })
    await ask(DELETE)
  },
  'a room without a join': async ({ room, ask }) => {
    await ask(CREATE, { name: room, emptyTimeout: 1, departureTimeout: 7 })
    await ask(CREATE, { name: room, emptyTimeout: 9 })
  },
  'one who comes, is asked about, and leaves': async ({ room, ask, join, untilGone, reason }) => {
    const ada = await join('ada')
    await ask(GET, { identity: 'ada' })
    await ask(LIST)
    await ask(ROOMS, { names: [room] })
    await ask(DISPATCHES)
    await ask(DISPATCH, { agentName: 'coach', metadata: 'level 4' })
    await ask(DISPATCHES)
    await ask(UNDISPATCH, { dispatchId: 'AD_unknown' })
    await ask(GET, { identity: 'eve' })
    await ask(REMOVE, { identity: 'eve' })
    await ada.leave()
    await reason(ada)
    await untilGone(ada)
    await ask(GET, { identity: 'ada' })
    await ask(LIST)
  },
  'a second tab with the same identity': async ({ ask, join, reason }) => {
    const older = await join('ada')
    const newer = await join('ada')
    await reason(older)
    await ask(LIST)
    await ask(DELETE)
    await reason(newer)
  },
  'one who is removed, and comes back': async ({ ask, join, untilGone, reason }) => {
    const ada = await join('ada')
    await ask(REMOVE, { identity: 'ada' })
    await reason(ada)
    await untilGone(ada)
    await ask(REMOVE, { identity: 'ada' })
    await join('ada')
    await ask(GET, { identity: 'ada' })
    await ask(DELETE)
  },
  'a room deleted with two in it': async ({ room, ask, join, reason }) => {
    const both = [await join('ada'), await join('eve')]
    await ask(LIST)
    await ask(DELETE)
    for (const participant of both) await reason(participant)
    await ask(LIST)
    await ask(ROOMS, { names: [room] })
    await ask(GET, { identity: 'ada' })
    await ask(DELETE)
  },
  'an agent, which keeps no room open': async ({ ask, join, reason }) => {
    const bot = await join('bot', { agent: true })
    const ada = await join('ada')
    await ask(LIST)
    await ada.leave()
    await reason(bot)
  },
  'one whose media never comes up': async ({ ask, joinSignalOnly, untilGone }) => {
    const drop = await joinSignalOnly('ada')
    await ask(LIST)
    drop()
    await untilGone({ identity: 'ada' })
    await ask(LIST)
    await ask(DELETE)
  },
  'a second leg': async ({ ask, join }) => {
    await join('ada', { publish: 'x' })
    await ask(LIST)
    await ask(GET, { identity: 'ada' })
    await ask(DELETE)
  },
}

describeWithLiveKit('the fake SFU answers and tells what livekit-server does', () => {
  let sides: { real: Side; fake: Side }
  beforeAll(async () => {
    sides = { real: await realSide(), fake: await fakeSide() }
  })
  afterAll(async () => {
    await Promise.all([sides.real.close(), sides.fake.close()])
    await dispose()
  })

  test.each(Object.entries(ACTS))('about %s', async (name, act) => {
    const [real, fake] = await Promise.all([play(sides.real, name, act), play(sides.fake, name, act)])
    expect(fake.answers).toEqual(real.answers)
    expect(fake.webhooks).toEqual(real.webhooks)
  })
})

const Held = z.object({ sid: z.string(), state: z.string() })

async function play(side: Side, room: string, act: (stage: Stage) => Promise<void>) {
  const { answer, webhooks } = comparables()
  const answers: unknown[] = []
  const joined: Participant[] = []
  const held = async (identity: string) => Held.safeParse((await side.ask(GET, { room, identity })).body).data
  await act({
    room,
    ask: async (method, more = {}, grants = 'all') =>
      void answers.push([method, answer(await side.ask(method, { room, ...more }, grants))]),
    async join(identity, { agent = false, ...options } = {}) {
      const participant = await side.join(await joinToken(room, identity, agent), options)
      joined.push(participant)
      const { sid } = participant
      await until(`${identity} is active`, async () => {
        const info = await held(participant.identity)
        return info?.sid === sid && info.state === 'ACTIVE'
      })
      return participant
    },
    async joinSignalOnly(identity) {
      const drop = await side.joinSignalOnly(await joinToken(room, identity, false))
      await until(`${identity} is listed`, () => held(identity))
      return drop
    },
    async untilGone({ identity }) {
      await until(`${identity} is gone`, async () => (await held(identity)) === undefined)
    },
    reason: async ({ identity, disconnected }) =>
      void answers.push(await until(`${identity} is disconnected`, disconnected)),
  })
  await until('the room is finished', () => side.received(room).some(({ event }) => event.event === 'room_finished'))
  await Promise.all(joined.map((participant) => participant.leave()))
  return { answers, webhooks: webhooks(side.received(room)) }
}

function joinToken(room: string, identity: string, agent: boolean): Promise<string> {
  const token = new AccessToken('devkey', 'secret', {
    identity,
    name: 'Ada',
    metadata: '{"theme":"dark"}',
    attributes: { userId: identity, sessionId: 'sess_1' },
  })
  token.addGrant({ room, roomJoin: true, canUpdateOwnMetadata: false })
  if (agent) token.kind = 'agent'
  token.roomConfig = new RoomConfiguration({
    departureTimeout: 3,
    agents: [{ agentName: 'tutor', metadata: 'level 3' }],
  })
  return token.toJwt()
}
