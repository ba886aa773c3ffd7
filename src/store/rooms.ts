/** Who may use a room name. */
export interface RoomStore {
  findOwner(name: string): Promise<string | null>
  /** Claims a free name, or says whose it already is. */
  claim(name: string, ownerId: string, now: number): Promise<{ ownerId: string; isNew: boolean }>
  /** Which of these names are claimed at all. */
  filterKnown(names: string[]): Promise<string[]>
  /** Frees at most `limit` names last used before the time, none with an unfinished session; returns how many. */
  prune(usedBefore: number, limit: number): Promise<number>
}
