import { createRoute, z } from '@hono/zod-openapi'
import Database from 'better-sqlite3'
import { type CallbackEnv, Pair } from '../../src/callbacks/guard.ts'
import { createRouter } from '../../src/http/router.ts'
import { startService } from '../../src/start.ts'

// The whole service with a route and a table of your own: what an agent orders for the user who is in the room.
// node --import tsx examples/your-route/server.ts

const Order = Pair.extend({ item: z.string().min(1).max(200) }).openapi('Order')
const Placed = z.object({ orderId: z.number().int() }).openapi('PlacedOrder')

startService({
  extend({ app, guard }) {
    const db = new Database(process.env.ORDERS_FILE ?? 'data/orders.db')
    db.exec(
      'CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, user_id TEXT, session_id TEXT, item TEXT) STRICT',
    )
    const insert = db.prepare('INSERT INTO orders (user_id, session_id, item) VALUES (?, ?, ?)')

    const placeOrder = createRoute({
      method: 'post',
      path: '/agent/orders',
      // Past the guard the agent is trusted, the body has this shape, and LiveKit has confirmed that the user is there.
      middleware: guard({ scope: 'progress:write', input: Order }),
      request: { body: { required: true, content: { 'application/json': { schema: Order } } } },
      responses: { 201: { description: 'Placed.', content: { 'application/json': { schema: Placed } } } },
    })
    const orders = createRouter<CallbackEnv>().openapi(placeOrder, (c) => {
      const { id, userId } = c.var.session
      const { lastInsertRowid } = insert.run(userId, id, c.req.valid('json').item)
      return c.json({ orderId: Number(lastInsertRowid) }, 201)
    })
    app.route('/', orders)
  },
})
