import type { Session } from '../store/sessions.ts'

/** Sessions that one pass tries to remove: in total, and per user. */
const PER_PASS = 100
const PER_USER = 10
/** How many passes back an attempt is remembered. */
const REMEMBERED = 50

/**
 * Picks the sessions for one removal pass: round-robin over users, least recently attempted first. A user who keeps
 * coming back takes up at most `PER_USER` attempts and delays no other user's removal.
 */
export function createRemovalOrder() {
  /** The last pass that tried this session, or any session of this user. */
  const tried = new Map<string, number>()
  let pass = 0
  const lastTry = (id: string) => tried.get(id) ?? 0

  return function take(sessions: readonly Session[]): Session[] {
    pass++
    for (const [id, at] of tried) if (pass - at > REMEMBERED) tried.delete(id)
    const taken = new Map<string, number>()
    const ranked = sessions
      .toSorted((a, b) => lastTry(a.id) - lastTry(b.id))
      .map((session) => {
        const rank = taken.get(session.userId) ?? 0
        taken.set(session.userId, rank + 1)
        return { session, rank }
      })
    const chosen = ranked
      .filter(({ rank }) => rank < PER_USER)
      .sort((a, b) => a.rank - b.rank || lastTry(a.session.userId) - lastTry(b.session.userId))
      .slice(0, PER_PASS)
      .map(({ session }) => session)
    for (const { id, userId } of chosen) tried.set(id, pass).set(userId, pass)
    return chosen
  }
}
