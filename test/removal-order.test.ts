import { expect, test } from 'vitest'
import { createRemovalOrder } from '../src/sessions/removal-order.ts'

const session = (userId: string, index: number) => ({
  id: `${userId}-${index}`,
  userId,
  room: 'room',
  status: 'ended' as const,
  createdAt: index,
  tokenExpiresAt: 0,
  endedAt: index,
  endReason: 'user' as const,
  agentName: null,
  agentData: null,
  dispatchedSid: null,
  dispatchedAt: null,
  removedAt: null,
  lastSeq: 2,
  version: 2,
})
const sessionsOf = (userId: string, count: number) => Array.from({ length: count }, (_, i) => session(userId, i))
const idsOf = (sessions: Array<{ id: string }>) => sessions.map(({ id }) => id)

test('a pass takes ten of one user, oldest end first, and the others in the passes after it', () => {
  const take = createRemovalOrder()
  const mine = sessionsOf('eve', 25)
  expect(idsOf(take(mine))).toEqual(idsOf(mine.slice(0, 10)))
  expect(idsOf(take(mine))).toEqual(idsOf(mine.slice(10, 20)))
  expect(idsOf(take(mine))).toEqual(idsOf([...mine.slice(20), ...mine.slice(0, 5)]))
})

test('a pass takes a hundred of all, and users who had none of them come first in the next', () => {
  const take = createRemovalOrder()
  const users = Array.from({ length: 250 }, (_, i) => `user${i}`)
  const all = users.flatMap((user) => sessionsOf(user, 3))
  const passes = [take(all), take(all), take(all)]
  for (const taken of passes) expect(taken).toHaveLength(100)
  expect(new Set(passes.flat().map(({ userId }) => userId)).size).toBe(250)
})

test('one whose removal failed waits behind no flood of new ones', () => {
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
