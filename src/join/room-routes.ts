import { createRoute, z } from '@hono/zod-openapi'
import { type UserEnv, userGuard, userGuardRefusals } from '../auth/guards.ts'
import type { AccessTokens } from '../auth/tokens.ts'
import { jsonBody, jsonBodyRefusals, limitBody, MAX_BODY_BYTES } from '../http/body.ts'
import { problems } from '../http/problem.ts'
import { limitRate, type RateLimits } from '../http/rate-limit.ts'
import { createRouter, jsonContent, strictObject } from '../http/router.ts'
import { same } from './request.ts'
import type { Rooms } from './rooms.ts'
import { NAME_SIZE, RoomName } from './schemas.ts'

interface RoomRoutesDeps {
  tokens: AccessTokens
  rooms: Rooms
  limits: Pick<RateLimits, 'userRequests'>
}

const CreateRoomRequest = strictObject({
  room: RoomName.describe(`Up to ${NAME_SIZE}; a fresh, unguessable one when left out.`),
  room_name: RoomName.describe('The same as `room`; both only if they agree.'),
  roomName: RoomName.describe('The same as `room`; both only if they agree.'),
}).openapi('CreateRoom')
const RoomResponse = z
  .object({
    room: z.string().describe('Its name, for `POST /token`.'),
    room_name: z.string().describe('The same.'),
  })
  .openapi('Room')

/** Creates rooms ahead of their first participant. */
export function roomRoutes({ tokens, rooms, limits }: RoomRoutesDeps) {
  const router = createRouter<UserEnv>()
  const limit = limitRate<UserEnv>(limits.userRequests, (c) => c.var.user.userId)
  router.use('/rooms', userGuard(tokens), limit, limitBody(MAX_BODY_BYTES), jsonBody)
  const created = { content: jsonContent(RoomResponse) }
  return router.openapi(
    createRoute({
      method: 'post',
      path: '/rooms',
      operationId: 'createRoom',
      tags: ['Join tokens'],
      summary: 'Claim a room name and create the room in LiveKit',
      security: [{ userToken: [] }],
      request: { body: { required: false, content: jsonContent(CreateRoomRequest) } },
      responses: {
        200: {
          description: 'The name was claimed before and this user may use it; the room exists in LiveKit.',
          ...created,
        },
        201: { description: 'This call claimed the name for the user and created the room in LiveKit.', ...created },
        ...problems(
          ...userGuardRefusals,
          ...jsonBodyRefusals,
          'rate_limited',
          'room_forbidden',
          'too_many_rooms',
          'livekit_unavailable',
        ),
      },
    }),
    async (c) => {
      const body = c.req.valid('json')
      const { userId } = c.var.user
      const named = same('room', body.room_name, body.roomName, body.room)
      const room = named ?? rooms.newName()
      const { isNew } = await (named === undefined ? rooms.claim(room, userId) : rooms.enter(room, userId))
      await rooms.create(room)
      return c.json({ room, room_name: room }, isNew ? 201 : 200)
    },
  )
}
