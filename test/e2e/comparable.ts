import type { Received, TwirpAnswer } from './sides.ts'

/** A moment: only how fine it is can be compared, by its number of digits. */
const TIMES = new Set(['joined_at', 'joined_at_ms', 'creation_time', 'creation_time_ms', 'created_at', 'createdAt'])

/** Fields that differ for unrelated reasons: only their type is compared. */
const TYPE_ONLY = new Set([
  // The client's software, and how often its entry was written.
  'client_protocol',
  'capabilities',
  'version',
  // The server's media, which the fake has none of.
  'enabled_codecs',
  'turn_password',
  // LiveKit counts with a delay of seconds.
  'num_participants',
])

/** The service reads these; the rest of a webhook (codecs, permissions, timeouts) is nothing to it. */
const PARTICIPANT_READ = ['sid', 'identity', 'state', 'kind', 'attributes', 'metadata', 'name', 'disconnectReason']

const FINISHED = 'room_finished'

/** Makes what one LiveKit answered and sent comparable with another's: sids become PA_1, PA_2 in the order of their coming. */
export function comparables() {
  const sids = new Map<string, string>()

  function named(sid: string): string {
    const [prefix = '', random = ''] = sid.split('_')
    if (!/^\w{12,}$/.test(random)) return `no sid: ${sid}`
    const known = sids.get(sid)
    if (known) return known
    const name = `${prefix}_${[...sids.values()].filter((other) => other.startsWith(`${prefix}_`)).length + 1}`
    sids.set(sid, name)
    return name
  }

  function walk(value: unknown, key = ''): unknown {
    if (TYPE_ONLY.has(key)) return Array.isArray(value) ? 'array' : typeof value
    if (TIMES.has(key)) return /^\d+$/.test(String(value)) ? `${String(value).length} digits` : value
    if ((key === 'sid' || key === 'id') && typeof value === 'string') return named(value)
    if (Array.isArray(value)) return inOrder(value).map((entry) => walk(entry))
    if (typeof value !== 'object' || value === null) return value
    // protobuf's JSON takes null and absence for the same: Go writes the one, the SDK's library the other.
    const fields = Object.entries(value).filter(([, field]) => field !== null)
    return Object.fromEntries(fields.map(([name, field]) => [name, walk(field, name)]))
  }

  return {
    answer: ({ status, contentType, body }: TwirpAnswer) => ({ status, contentType, body: walk(body) }),
    webhooks: (received: Received[]) =>
      leavingInOrder(received).map(({ contentType, claims, event: { event, id, createdAt, room, participant } }) => ({
        contentType,
        claims,
        event,
        // Each webhook has its own.
        id: named(id),
        createdAt: walk(createdAt, 'createdAt'),
        room: { sid: named(room.sid), name: room.name },
        ...(participant
          ? { participant: walk(Object.fromEntries(PARTICIPANT_READ.map((name) => [name, participant[name] ?? null]))) }
          : {}),
      })),
  }
}

/** Lists come in no order of LiveKit's. */
const inOrder = (list: unknown[]) => list.toSorted((a, b) => orderOf(a).localeCompare(orderOf(b)))

function orderOf(entry: unknown): string {
  const { identity, agent_name, name } = entry as Record<string, unknown>
  return String(identity ?? agent_name ?? name ?? entry)
}

/** Those whom a deleted room sends out go in no order of LiveKit's. */
function leavingInOrder(received: Received[]): Received[] {
  const first =
    received.findLastIndex(({ event }) => event.event !== 'participant_left' && event.event !== FINISHED) + 1
  const leaving = received.slice(first).filter(({ event }) => event.event !== FINISHED)
  const identityOf = ({ event }: Received) => event.participant?.identity ?? ''
  const sorted = leaving.toSorted((a, b) => identityOf(a).localeCompare(identityOf(b)))
  return received.toSpliced(first, leaving.length, ...sorted)
}
