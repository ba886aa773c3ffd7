import { LIMIT_MS } from './lifecycle-oracle.ts'
import type { State } from './small-scope.ts'

const seconds = (ms: number) => Math.round(ms / 1000)
/** Beyond this age only the token's own expiry makes a difference. */
const OLDEST = seconds(LIMIT_MS) + 1
const NEVER = 0xffff

const times: number[] = []
const words: number[] = []

function time(at: number | null): void {
  times.push(at ?? -1)
}

function text(value: string): void {
  for (let i = 0; i < value.length; i++) words.push(value.charCodeAt(i))
  words.push(0)
}

/**
 * The state as a string in which times count only by their order and by their age, as far as a deadline depends on
 * it. Two states with one string behave alike from then on.
 */
export function canonical({ now, truth, evidence, finishedKnown, questions, lastThere, facts }: State): string {
  times.length = 0
  words.length = 0
  const age = (at: number | null) => words.push(at === null ? NEVER : Math.min(OLDEST, seconds(now - at)))

  words.push(truth.rooms, ...truth.finished, NEVER, ...finishedKnown, NEVER, truth.legs.length)
  for (const { whose, room, phase, goneAt } of truth.legs) {
    text(`${whose[1]}${phase[0]}${phase[1]}`)
    words.push(room)
    age(goneAt)
  }
  // Unknown sids need no entry; the others are in the order of the sids.
  for (const { first, last, listedAt, left, roomKnown, absents, run } of evidence) {
    words.push((left ? 1 : 0) + (roomKnown ? 2 : 0) + run * 4, absents.length)
    time(first)
    time(last)
    time(listedAt)
    for (const at of absents) time(at)
  }
  words.push(NEVER)
  for (const { askedAt, listed } of questions) {
    time(askedAt)
    text(listed ? `${listed.sid}${listed.phase[0]}` : '')
  }
  age(lastThere)
  text(facts.end ?? '')
  // An ended session's facts never change again.
  if (!facts.end) {
    for (const { sid, roomSid, misses, joinedAt, seenAt, confirmedAt, leftAt, missedAt } of facts.presences) {
      text(`${sid}${roomSid}`)
      words.push(misses)
      for (const at of [joinedAt, seenAt, confirmedAt, leftAt, missedAt]) time(at)
    }
    for (const [room, at] of facts.finishedRooms) {
      text(room)
      time(at)
    }
  }
  const end = words.push(Math.min(seconds(facts.tokenExpiresAt) + 60, seconds(now)))
  const ranks = [...new Set(times).add(now)].sort((a, b) => a - b)
  for (const at of times)
    words.push(at < 0 ? NEVER : ranks.indexOf(at), at < 0 ? 0 : Math.min(OLDEST, seconds(now - at)))
  words.push(ranks.indexOf(now), end)
  return String.fromCharCode(...words)
}
