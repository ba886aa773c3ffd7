import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { until } from '../e2e/processes.ts'
import { expectAllStored, instanceLoad } from './instance-load.ts'
import { describeWithPostgres, useInstances } from './instances.ts'
import { report, sized } from './size.ts'

const KILLS = sized(5, 50)
const ROUNDS = sized(1, 10)
const CLIENTS = 6
const RECONCILE_SECONDS = 2

describeWithPostgres('of two instances', () => {
  const instances = useInstances({ env: { RECONCILE_SECONDS: String(RECONCILE_SECONDS) } })

  test(`one is killed ${KILLS} times: the other carries on, and nothing that was acknowledged is lost`, async () => {
    const { all, sfu, sql, api } = instances()
    const load = await instanceLoad(instances(), CLIENTS)
    let running = true
    const loading = load.run(() => running)
    const gaps: number[] = []
    const reconciled: number[] = []
    for (let kill = 0; kill < KILLS; kill++) {
      const victim = all[kill % 2]?.service
      await delay(300 + (kill % 5) * 200)
      // A session that only a comparison with LiveKit can end: its webhooks are lost.
      const user = await until('a guest is in', () => api.guest().catch(() => undefined))
      const ticket = await until('a token is minted', () => api.mint(user).catch(() => undefined))
      sfu.join(ticket.participant_token)
      const answered = load.told.answeredAt.length
      await victim?.stop('SIGKILL')
      const killedAt = performance.now()
      await until('the other one answers', () => load.told.answeredAt.length > answered)
      gaps.push((load.told.answeredAt[answered] ?? 0) - killedAt)
      const status = async () =>
        (await sql<{ status: string }>('select status from sessions where id = $1', [ticket.session_id]))[0]?.status
      await until('its room is reconciled', async () => (await status()) === 'live')
      reconciled.push(performance.now() - killedAt)
      await victim?.start()
    }
    running = false
    await loading
    const { told } = load
    await expectAllStored(instances(), told)
    expect(Math.max(...reconciled)).toBeLessThan(RECONCILE_SECONDS * 1000 + 1000)
    report('kill -9 of one of two instances', {
      kills: KILLS,
      calls: told.calls,
      retries: told.attempts - told.calls,
      failed: told.failures.length,
      sessions: told.sessions.length,
      progress: told.progress.length,
      webhooks: told.webhooks.length,
      lost: 0,
      'next answer ms': Math.round(Math.max(...gaps)),
      'reconciled ms': Math.round(Math.max(...reconciled)),
    })
    // What the clients do not retry is cut off with its connection, and nothing else.
    expect(told.failures.filter((failure) => !failure.endsWith('unreachable'))).toEqual([])
  })

  test('each is restarted in turn: no call fails', async () => {
    const { all } = instances()
    const load = await instanceLoad(instances(), CLIENTS)
    let running = true
    const loading = load.run(() => running)
    for (let round = 0; round < ROUNDS; round++) {
      for (const { service } of all) {
        await service.stop('SIGTERM')
        await service.start()
        await delay(300)
      }
    }
    running = false
    await loading
    const { told } = load
    await expectAllStored(instances(), told)
    report('rolling restart of two instances', {
      restarts: ROUNDS * all.length,
      calls: told.calls,
      retries: told.attempts - told.calls,
      failed: told.failures.length,
    })
    expect(told.failures).toEqual([])
  })
})
