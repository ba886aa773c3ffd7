import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join as joinPath } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, expect, test } from 'vitest'
import { REPOSITORY } from './binaries.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

describeWithLiveKit('examples/your-route', () => {
  const folder = mkdtempSync(joinPath(tmpdir(), 'behalf-orders-'))
  const ordersFile = joinPath(folder, 'orders.db')
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  const stack = useStack({
    program: ['--import', import.meta.resolve('tsx'), joinPath(REPOSITORY, 'examples/your-route/server.ts')],
    env: { ORDERS_FILE: ordersFile },
  })

  test('the custom route example accepts an order while the user is in the room, and refuses it after the hang-up', async () => {
    const { api, join } = stack()
    const agent = await api.agent('waiter')
    const user = await api.register()
    const ticket = await api.mint(user)
    const pair = { userId: user.id, sessionId: ticket.session_id }
    const order = (body: Record<string, unknown>, bearer = agent.bearer) =>
      api.request('POST', '/agent/orders', { bearer, body })

    expect(await order({ ...pair, item: 'too early' })).toMatchObject({ status: 409, code: 'session_not_live' })

    const guest = await join(ticket.token)
    await api.untilAccepted(agent, pair)
    expect(await order({ ...pair, item: 'tea' })).toMatchObject({ status: 201, body: { orderId: 1 } })
    // Everything that the guard refuses it refuses here, too.
    const stranger = await api.guest()
    expect(await order({ ...pair, userId: stranger.id, item: 'tea' })).toMatchObject({ code: 'session_mismatch' })
    expect(await order({ ...pair, item: '' })).toMatchObject({ status: 422, code: 'validation_failed' })
    expect(await order({ ...pair, item: 'tea' }, user.bearer)).toMatchObject({ status: 401, code: 'invalid_token' })

    await guest.leave()
    await api.untilRefused(agent, pair)
    expect(await order({ ...pair, item: 'too late' })).toMatchObject({ status: 409, code: 'session_not_live' })
    await api.end(user, pair.sessionId)
    expect(await order({ ...pair, item: 'too late' })).toMatchObject({ status: 409, code: 'session_ended' })

    const orders = new Database(ordersFile, { readonly: true })
    expect(orders.prepare('SELECT * FROM orders').all()).toEqual([
      { id: 1, user_id: pair.userId, session_id: pair.sessionId, item: 'tea' },
    ])
    orders.close()
  })
})
