import { expect, test, vi } from 'vitest'
import { execute, newDatabase, withClient } from '../database.ts'
import { callingScene, NOT_LIVE, refusal, UNKNOWN } from '../scene.ts'
import { postWebhook, webhookEvent } from '../sfu.ts'
import { makeApp, post, type TestApp } from '../support.ts'

const LIVENESS_SECONDS = 10

/** The time of the database and of two machines, which all move on together. */
async function sharedTime(url: string) {
  // A function of the same name, found before the system's; a statement that waits sees how it moves on.
  await execute(
    url,
    `create schema fake; create table fake.passed as select 0::float8 as seconds;
     create function fake.clock_timestamp() returns timestamptz language sql volatile as
       $$ select pg_catalog.clock_timestamp() + seconds * interval '1 second' from fake.passed $$`,
  )
  const machine = () => {
    const state = { passed: 0, set: 0, isPaused: false }
    const time = {
      wall: () => Date.now() + state.passed + state.set,
      elapsed: () => performance.now() + state.passed,
      isShared: true,
    }
    return { state, time }
  }
  const machines = [machine(), machine()] as const
  return {
    databaseUrl: `${url}?options=${encodeURIComponent('-c search_path=fake,pg_catalog,public')}`,
    machines,
    /** Seconds pass, for a paused machine unnoticed. */
    async advance(seconds: number) {
      await execute(url, `update fake.passed set seconds = seconds + ${seconds}`)
      for (const { state } of machines) if (!state.isPaused) state.passed += seconds * 1000
    },
    /** One machine's wall clock is set. */
    step: (which: 0 | 1, seconds: number) => {
      machines[which].state.set += seconds * 1000
    },
    pause: (which: 0 | 1) => {
      machines[which].state.isPaused = true
    },
  }
}

/** Two instances, and a user in the room whom the first has just confirmed. */
async function twoInstances(env: Record<string, string> = {}) {
  const url = await newDatabase()
  const time = await sharedTime(url)
  const options = { env: { LIVENESS_SECONDS: String(LIVENESS_SECONDS), ...env }, databaseUrl: time.databaseUrl }
  const call = await callingScene({ ...options, time: time.machines[0].time })
  const { s, pair, agent } = call
  const other = await makeApp({ ...options, sfu: s.sfu, time: time.machines[1].time })
  const reportAt = ({ app }: Pick<TestApp, 'app'>) => post(app, '/agent/progress', { ...pair, data: {} }, agent.bearer)
  // Just started, an instance may not yet know how its time compares with that of others.
  for (const one of [s, other]) await vi.waitFor(async () => expect((await reportAt(one)).status).toBe(201))
  return { ...call, url, time, other, reportAt }
}

const after: Array<{ now: string; expected: object; act: (call: Awaited<ReturnType<typeof twoInstances>>) => void }> = [
  { now: 'the user has left', expected: NOT_LIVE, act: ({ s, leg }) => s.sfu.leave(leg) },
  {
    now: 'LiveKit does not answer',
    expected: UNKNOWN,
    act: ({ s }) => {
      s.sfu.mode = 'error500'
    },
  },
]

/** Holds the session, as a slow transaction would, while `meanwhile` runs and a callback waits for it. */
async function whileHeld(
  url: string,
  id: string,
  callback: () => Response | Promise<Response>,
  meanwhile: () => Promise<unknown>,
): Promise<Response> {
  return withClient(url, async (client) => {
    await client.query('begin')
    await client.query('select from sessions where id = $1 for no key update', [id])
    const answer = callback()
    await withClient(url, (watching) =>
      vi.waitFor(async () => {
        const { rows } = await watching.query(
          `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        )
        expect(rows).toHaveLength(1)
      }),
    )
    await meanwhile()
    await client.query('commit')
    return answer
  })
}

test.each(after)('a callback that waits too long in the database is refused when $now', async ({ expected, act }) => {
  const call = await twoInstances()
  const { s, url, pair, time, reportAt } = call
  const answer = whileHeld(
    url,
    pair.sessionId,
    () => reportAt(s),
    async () => {
      act(call)
      await time.advance(LIVENESS_SECONDS + 1)
    },
  )
  expect(await refusal(answer)).toEqual(expected)
})

test.each(after)('an instance that was paused unnoticed refuses a callback when $now', async ({ expected, act }) => {
  const call = await twoInstances()
  call.time.pause(0)
  act(call)
  await call.time.advance(LIVENESS_SECONDS + 1)
  expect(await refusal(call.reportAt(call.s))).toEqual(expected)
  expect(await refusal(call.s.end(call.agent.bearer, call.pair))).toEqual(expected)
})

test.each(after)(
  'an instance that was paused with another one, which noticed it first, refuses one when $now',
  async (to) => {
    const call = await twoInstances()
    call.time.pause(0)
    call.time.pause(1)
    to.act(call)
    await call.time.advance(60)
    await call.s.store.saveClock()
    expect(await refusal(call.reportAt(call.other))).toEqual(to.expected)
  },
)

test.each(after)(
  'a paused instance that compares its clock only slowly refuses one when $now',
  async ({ expected, act }) => {
    const call = await twoInstances()
    await call.other.store.close()
    call.time.pause(0)
    act(call)
    await call.time.advance(60)
    await execute(
      call.url,
      `create function slow() returns trigger language plpgsql as
       $$ begin perform pg_sleep(0.3); return new; end $$;
     create trigger slow before update on clock for each row execute function slow()`,
    )
    expect(await refusal(call.reportAt(call.s))).toEqual(expected)
  },
)

test('a callback that waited too long is accepted once LiveKit has confirmed the user again', async () => {
  const { s, url, pair, time, reportAt, asked } = await twoInstances()
  const before = asked()
  const wait = () => time.advance(LIVENESS_SECONDS + 1)
  expect((await whileHeld(url, pair.sessionId, () => reportAt(s), wait)).status).toBe(201)
  expect(asked()).toBe(before + 1)
  time.pause(0)
  await wait()
  expect((await reportAt(s)).status).toBe(201)
  expect(asked()).toBe(before + 2)
})

test('a callback that waits beyond the wrap-up window is refused', async () => {
  const { s, url, pair, leg, time, reportAt } = await twoInstances({ WRAP_UP_SECONDS: '5' })
  s.sfu.leave(leg)
  expect((await postWebhook(s, webhookEvent('participant_left', leg))).status).toBe(200)
  expect((await reportAt(s)).status).toBe(201)
  const answer = whileHeld(
    url,
    pair.sessionId,
    () => reportAt(s),
    () => time.advance(6),
  )
  expect(await refusal(answer)).toEqual(NOT_LIVE)
})

test.each([-3600, -60, -4, 4, 60, 3600])(
  'one machine’s clock that is set by %d s lets no instance accept a callback for longer',
  async (step) => {
    for (const mode of ['ok', 'error500'] as const) {
      const { s, leg, time, other, reportAt } = await twoInstances()
      s.sfu.leave(leg)
      s.sfu.mode = mode
      const accepted: number[] = []
      for (let age = 0; age <= 14; age += 2) {
        // The last comparison with the database is from before.
        if (age === 4) await Promise.all([s, other].map(({ store }) => store.saveClock()))
        if (age === 4) time.step(0, step)
        for (const one of [s, other]) if ((await reportAt(one)).status === 201) accepted.push(age)
        await time.advance(2)
      }
      expect(accepted.length).toBeGreaterThan(0)
      expect(accepted.filter((age) => age > LIVENESS_SECONDS)).toEqual([])
    }
  },
)
