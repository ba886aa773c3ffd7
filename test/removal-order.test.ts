import { expect, test } from 'vitest'
import { createRemovalOrder } from '../src/sessions/removal-order.ts'

const session = (userId: string, index: number) => ({
  id: `${userId}-${index}`,
  userId,
  signInId: null,
  room: 'room',
  status: 'ended' as const,
  createdAt: index,
  tokenExpiresAt: 0,
  endedAt: index,
  endReason: 'user' as const,
  agentName: null,
  agentData: null,
  agentDeployment: null,
  dispatchedSid: null,
  dispatchedAt: null,
  phoneSid: null,
  callingSince: null,
  removedAt: null,
  eventBytes: 0,
  lastSeq: 2,
  version: 2,
})
const sessionsOf = (userId: string, count: number) => Array.from({ length: count }, (_, i) => session(userId, i))
const idsOf = (sessions: Array<{ id: string }>) => sessions.map(({ id }) => id)

test('a removal pass takes ten sessions per user, oldest end first, and leaves the rest to later passes', () => {
  const take = createRemovalOrder()
  const mine = sessionsOf('eve', 25)
  expect(idsOf(take(mine))).toEqual(idsOf(mine.slice(0, 10)))
  expect(idsOf(take(mine))).toEqual(idsOf(mine.slice(10, 20)))
  expect(idsOf(take(mine))).toEqual(idsOf([...mine.slice(20), ...mine.slice(0, 5)]))
})

test('a removal pass takes a hundred sessions, and the next starts with users who were left out', () => {
  const take = createRemovalOrder()
  const users = Array.from({ length: 250 }, (_, i) => `user${i}`)
  const all = users.flatMap((user) => sessionsOf(user, 3))
  const passes = [take(all), take(all), take(all)]
  for (const taken of passes) expect(taken).toHaveLength(100)
  expect(new Set(passes.flat().map(({ userId }) => userId)).size).toBe(250)
})

test('a failed removal is not delayed by a flood of new ones', () => {
  const take = createRemovalOrder()
  const ada = session('ada', 0)
  for (let pass = 1; pass <= 20; pass++) {
    const flood = Array.from({ length: 150 }, (_, i) => session(`eve${i}`, pass))
    take([...flood, ada])
  }
  const taken = [0, 1].flatMap((pass) =>
    take([...Array.from({ length: 150 }, (_, i) => session(`eve${i}`, 100 + pass)), ada]),
  )
  expect(idsOf(taken)).toContain(ada.id)
})
