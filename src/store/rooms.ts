/**
 * Milliseconds. A claim that was used within this time is not dated again, so most joins write nothing for it. Far
 * shorter than the time until a claim is pruned.
 */
export const RECENT_USE_MS = 60 * 60 * 1000

/** Which user owns a room name: who claimed it, or opened the first session in a generated one. */
export interface RoomStore {
  findOwner(name: string): Promise<string | null>
  /**
   * The same, and dates a claim's last use now, unless that was recent, so that it is not pruned before its owner's next
   * step. A date ahead of `now` is a wrong clock's, and is replaced.
   */
  keep(name: string, now: number): Promise<string | null>
  /**
   * Claims a free name, or returns its present owner; null when the user has `max` claims already.
   * @throws AppError `invalid_token` when the user was deleted
   */
  claim(name: string, ownerId: string, now: number, max: number): Promise<{ ownerId: string; isNew: boolean } | null>
  /** Which of these names belong to a user. */
  filterKnown(names: string[]): Promise<string[]>
  /** Frees up to `limit` names last used before `usedBefore` without an unfinished session; returns how many. */
  prune(usedBefore: number, limit: number): Promise<number>
}
