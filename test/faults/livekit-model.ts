// LiveKit's truth, small: one room name, two sessions of one user, at most three participant sids. One user has one
// identity, so a new connection replaces the existing one (DUPLICATE_IDENTITY).

/** Which of the user's two sessions: the one under test, or the other one. */
export type Whose = 'ours' | 'other'

export type Phase =
  /** Listed, media not up. Only for a participant that never becomes active; others are modelled from their activation on. */
  | 'joining'
  | 'active'
  /** Was active, is no longer listed. */
  | 'gone'
  /** Went before it was active: LiveKit sends participant_connection_aborted. */
  | 'aborted'

export interface Leg {
  sid: string
  whose: Whose
  /** Index of the room's sid: a name gets a new sid each time it is created. */
  room: number
  phase: Phase
  goneAt: number | null
}

export interface Truth {
  /** In the order of their coming. Sids are never reused. */
  legs: readonly Leg[]
  /** Room sids so far; the last one exists unless it has finished. */
  rooms: number
  finished: readonly number[]
}

export const NOBODY: Truth = { legs: [], rooms: 0, finished: [] }

const SIDS = ['PA_1', 'PA_2', 'PA_3']
export const roomSid = (room: number) => `RM_${room}`

const isThere = ({ phase }: Leg) => phase === 'joining' || phase === 'active'

/** The participant that LiveKit lists now: at most one, since there is one identity. */
export const present = ({ legs }: Truth): Leg | undefined => legs.find(isThere)

export const isActive = (truth: Truth): boolean =>
  truth.legs.some(({ whose, phase }) => whose === 'ours' && phase === 'active')

function sentOut(truth: Truth, at: number): Truth {
  if (!present(truth)) return truth
  return {
    ...truth,
    legs: truth.legs.map((leg) =>
      isThere(leg) ? { ...leg, phase: leg.phase === 'active' ? 'gone' : 'aborted', goneAt: at } : leg,
    ),
  }
}

/** Everything that can happen in LiveKit next, whether or not the service knows. */
export function* moves(truth: Truth, at: number): Generator<Truth> {
  if (present(truth)) yield sentOut(truth, at)
  const current = truth.rooms - 1
  const exists = truth.rooms > 0 && !truth.finished.includes(current)
  if (exists) yield { ...sentOut(truth, at), finished: [...truth.finished, current] }
  const sid = SIDS[truth.legs.length]
  if (sid === undefined) return
  const { legs, finished } = sentOut(truth, at)
  const room = exists ? current : truth.rooms
  for (const [whose, phase] of COMERS) {
    yield { legs: [...legs, { sid, whose, room, phase, goneAt: null }], rooms: room + 1, finished }
  }
}

const COMERS: ReadonlyArray<[Whose, Phase]> = [
  ['ours', 'active'],
  ['ours', 'joining'],
  ['other', 'active'],
]
