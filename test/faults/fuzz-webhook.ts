import fc, { type Arbitrary } from 'fast-check'
import { mutate, mutation, NASTY } from './fuzz-schema.ts'

const EVENTS = [
  'participant_joined',
  'participant_left',
  'participant_connection_aborted',
  'room_finished',
  'room_started',
  'of_tomorrow',
]

/** Events as LiveKit would sign them, some of them without sense. */
export const webhook: Arbitrary<unknown> = fc
  .tuple(
    fc.record(
      {
        event: fc.oneof(
          { weight: 6, arbitrary: fc.constantFrom<unknown>(...EVENTS) },
          { weight: 1, arbitrary: fc.jsonValue() },
        ),
        id: fc.oneof(
          fc.uuid().map((id) => `EV_${id}`),
          fc.constantFrom('EV_same', ...NASTY),
        ),
        createdAt: fc.oneof(
          { weight: 6, arbitrary: fc.constant('$now') },
          { weight: 1, arbitrary: fc.constantFrom<unknown>(0, '0', -1, 1e30, 'x', null) },
        ),
        room: fc.record(
          { sid: fc.constantFrom('RM_1', 'RM_2', ''), name: fc.constantFrom('$room', 'elsewhere', '') },
          { requiredKeys: [] },
        ),
        participant: fc.record(
          {
            sid: fc.constantFrom('PA_1', 'PA_2', 'PA_3', ''),
            identity: fc.constantFrom('$user', '$other', '$agent'),
            attributes: fc.dictionary(
              fc.constantFrom('sessionId', 'userId', 'x'),
              fc.constantFrom('$session', '$user', 'x'),
            ),
            kind: fc.constantFrom<unknown>('STANDARD', 'AGENT', 0, 99, 'NEW'),
            state: fc.constantFrom<unknown>('ACTIVE', 'JOINING', 2, 99),
            disconnectReason: fc.constantFrom<unknown>('CLIENT_INITIATED', 1, 99, 'NEW'),
          },
          { requiredKeys: ['sid', 'identity', 'attributes'] },
        ),
      },
      { requiredKeys: ['event', 'id', 'createdAt'] },
    ),
    fc.option(mutation, { freq: 6 }),
  )
  .map(([value, change]) => (change ? mutate(value, change) : value))
