import { z } from '@hono/zod-openapi'
import Database from 'better-sqlite3'
import { Pair } from '../../src/agent/agent-route.ts'
import { startService } from '../../src/start.ts'

// The whole service with your own route and table: an agent places orders for the user who is in the room.
// node --import tsx examples/your-route/server.ts

startService({
  extend({ app, agentRoute }) {
    const db = new Database(process.env.ORDERS_FILE ?? 'data/orders.db')
    db.exec(
      'CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, user_id TEXT, session_id TEXT, item TEXT) STRICT',
    )
    const insert = db.prepare('INSERT INTO orders (user_id, session_id, item) VALUES (?, ?, ?)')

    const placeOrder = agentRoute(
      {
        method: 'post',
        path: '/agent/orders',
        scope: 'progress:write',
        input: Pair.extend({ item: z.string().min(1).max(200) }).openapi('Order'),
        answer: z.object({ orderId: z.number().int() }).openapi('PlacedOrder'),
        status: 201,
      },
      // Here the agent is trusted, the body has this shape, and LiveKit has confirmed that the user is in the room.
      ({ session, input }) => {
        const { lastInsertRowid } = insert.run(session.userId, session.id, input.item)
        return { orderId: Number(lastInsertRowid) }
      },
    )
    app.openapi(...placeOrder)
    return () => db.close()
  },
})
