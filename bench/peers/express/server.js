// Bare mint with Express and LiveKit's server SDK: node server.js <port> <key> <secret>
import express from 'express'
import { AccessToken } from 'livekit-server-sdk'

const [, , port, key, secret] = process.argv
const app = express()
app.use(express.json())
app.post('/', async (request, response) => {
  const { room, identity } = request.body
  const token = new AccessToken(key, secret, { identity, ttl: 15 * 60 })
  token.addGrant({ roomJoin: true, room, canPublish: true, canSubscribe: true, canPublishData: true })
  response.json({ server_url: 'ws://127.0.0.1:7880', participant_token: await token.toJwt() })
})
app.listen(Number(port), '127.0.0.1')
