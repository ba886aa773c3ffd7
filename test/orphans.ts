import type { Known } from '../src/store/sessions.ts'
import type { Store } from '../src/store/store.ts'
import { ADMISSION, directSessions } from './direct-sessions.ts'

const USER = 'user_1'
const SESSION = 'sess_1'
const AT = 10
const EXPIRES_AT = 1e15

const opening = (id: string) => ({
  id,
  userId: USER,
  room: `room-${id}`,
  createdAt: AT,
  tokenExpiresAt: EXPIRES_AT,
  signInId: null,
  agentName: null,
  agentData: null,
  agentDeployment: null,
})
const family = (id: string) => ({ id, userId: USER, expiresAt: EXPIRES_AT, first: { hash: id, expiresAt: EXPIRES_AT } })

/** A guest with a sign-in and a live session, as loaded before they are deleted. */
export async function guestInSession(store: Store): Promise<Known> {
  await store.users.insertUser({ id: USER, email: null, name: null, passwordHash: null, createdAt: AT })
  await store.users.insertFamily(family('fam_1'), null, AT)
  const sessions = directSessions(store)
  await sessions.open(opening(SESSION))
  const askedAt = store.clock.steady()
  await sessions.observe({ session: SESSION }, { kind: 'answer', askedAt, present: ['PA_1'], joining: [] })
  const known = await store.sessions.load(SESSION)
  if (!known) throw new Error('There is no session')
  return known
}

interface OrphaningWrite {
  /** The tables whose rows belong to the guest or the session. */
  tables: string[]
  write(store: Store, known: Known): Promise<unknown>
  /** What it comes to when the guest and the session have been deleted. */
  outcome: unknown
}

const report = (key: string | null) => ({
  agentId: 'tutor',
  type: 'progress',
  data: {},
  key: key === null ? null : { agentId: 'tutor', key, payloadHash: 'hash' },
})
const job = { id: 'AJ_1', sessionId: SESSION, agentId: 'tutor', workerId: 'AW_1' }
const decision = { sessionId: SESSION, agentId: 'tutor', route: 'x', outcome: 'allowed', at: AT }
const joined = { kind: 'joined', sid: 'PA_2', roomSid: 'RM_1', at: AT } as const
const finished = { kind: 'room_finished', roomSid: 'RM_1', at: AT } as const

/** Every write of rows that belong to others. */
export const ORPHANING_WRITES: Record<string, OrphaningWrite> = {
  'a sign-in': {
    tables: ['refresh_families'],
    write: ({ users }) => users.insertFamily(family('fam_2'), null, AT),
    outcome: false,
  },
  'a refresh': {
    tables: ['refresh_tokens'],
    write: ({ users }) => users.rotate('fam_1', 'child', AT, { idleMs: 1000, graceMs: 0 }),
    outcome: { outcome: 'unknown' },
  },
  'a claim': {
    tables: ['rooms'],
    write: ({ rooms }) => rooms.claim('lesson', USER, AT, 5),
    outcome: 'invalid_token',
  },
  'a new session': {
    tables: ['sessions'],
    write: (store) => directSessions(store).open(opening('sess_2')),
    outcome: 'invalid_token',
  },
  'a join': {
    tables: ['presences'],
    write: (store) => directSessions(store).observe({ session: SESSION }, joined),
    outcome: null,
  },
  'a finished room': {
    tables: ['finished_rooms'],
    write: (store, { session: { room } }) =>
      directSessions(store).receive({ id: 'EV_1', receivedAt: AT }, { unfinishedIn: room }, finished),
    outcome: true,
  },
  'an event': {
    tables: ['events'],
    write: (store, known) => directSessions(store).report(known, report(null), ADMISSION),
    outcome: 'ended',
  },
  'an event with a key': {
    tables: ['idempotency_keys'],
    write: (store, known) => directSessions(store).report(known, report('key-1'), ADMISSION),
    outcome: 'ended',
  },
  'an audit entry': {
    tables: ['audit_entries'],
    write: ({ audit }) => audit.record(decision),
    outcome: undefined,
  },
  'a job': {
    tables: ['jobs'],
    write: ({ jobs }) => jobs.assign(job, { now: AT, steady: AT }),
    outcome: null,
  },
}

/** The value, or the code of the refusal; other errors are thrown. */
export const outcomeOf = (writing: Promise<unknown>) =>
  writing.catch((error: { name: string; code: unknown }) => {
    if (error.name === 'AppError') return error.code
    throw error
  })
