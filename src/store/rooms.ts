/** Which user may use a room name: who claimed it, or for a generated name (`newRoomName`) who opened the first session in it. */
export interface RoomStore {
  findOwner(name: string): Promise<string | null>
  /** The same, and keeps a claim as if it were made now: what its user does next in the room finds it unpruned. */
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
