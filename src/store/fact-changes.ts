import type { Presence, SessionFacts } from './sessions.ts'

/** What a decision changed of the facts it was made on; both stores write nothing else of them. */
export interface FactChanges {
  presences: readonly Presence[]
  /** Sids. */
  forgotten: readonly string[]
  finishedRooms: ReadonlyArray<readonly [roomSid: string, at: number]>
  forgottenRooms: readonly string[]
}

const NOTHING: FactChanges = { presences: [], forgotten: [], finishedRooms: [], forgottenRooms: [] }

export function factChanges(before: SessionFacts, after: SessionFacts): FactChanges {
  if (before === after) return NOTHING
  const known = new Set(before.presences)
  const kept = new Set(after.presences.map(({ sid }) => sid))
  return {
    presences: after.presences.filter((presence) => !known.has(presence)),
    forgotten: before.presences.map(({ sid }) => sid).filter((sid) => !kept.has(sid)),
    finishedRooms: [...after.finishedRooms].filter(([sid, at]) => before.finishedRooms.get(sid) !== at),
    forgottenRooms: [...before.finishedRooms.keys()].filter((sid) => !after.finishedRooms.has(sid)),
  }
}
