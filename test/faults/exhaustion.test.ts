import { expect, test } from 'vitest'
import { canonical } from './canonical.ts'
import { fingerprints } from './fingerprints.ts'
import { report, sized } from './size.ts'
import { INITIAL, judge, next, type State } from './small-scope.ts'

// Every sequence of up to so many facts, in every order of arrival, that LiveKit and the network can bring about for one
// session beside another one of the same user in the same room, with three participant sids between them. Admissible is:
// - A sid comes once and goes once. One user has one identity, so a newcomer throws out who is there (also the other
//   session's). A room name has a new sid each time it is created; when it finishes, everybody is out.
// - A webhook arrives after its event: at once, late, repeatedly, or never, in any order.
// - An answer is LiveKit's truth at the moment of its question (askedAt); it may arrive late, two may overtake each other,
//   and a restart loses those under way.
// - Our clock never goes back. With a tick of 0 everything between two deadlines happens in one millisecond.
// Each session's rules see its own facts only, so one is followed; what the other's do to it is in LiveKit's truth.
const DEPTH = sized(5, 7)

test.each([
  ['one after the other', 1],
  ['in one millisecond', 0],
])(`every sequence of ${DEPTH} facts leads to the state that LiveKit has (facts %s)`, (name, tickMs) => {
  const started = performance.now()
  const figures = explore(DEPTH, tickMs)
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  report(`exhaustion to depth ${DEPTH}, facts ${name}`, { ...figures, seconds })
  expect(figures.states).toBeGreaterThan(sized(100_000, 1_000_000))
})

/** Breadth first; the last two layers are judged in passing, because the last but one is too many to keep. */
function explore(depth: number, tickMs: number) {
  const seen = fingerprints()
  const last = fingerprints()
  let twice = 0
  let steps = 0
  let layer: State[] = [INITIAL]
  judge(INITIAL)
  seen.add(canonical(INITIAL))

  function visitLast(state: State): void {
    for (const reached of next(state, tickMs)) {
      steps++
      const key = canonical(reached)
      if (!seen.has(key) && last.add(key)) judge(reached)
    }
  }

  for (let d = 1; d < depth; d++) {
    const reachedNow: State[] = []
    for (const state of layer) {
      for (const reached of next(state, tickMs)) {
        steps++
        const key = canonical(reached)
        if (!seen.add(key)) continue
        judge(reached)
        if (last.has(key)) twice++
        if (d === depth - 1) visitLast(reached)
        else reachedNow.push(reached)
      }
    }
    layer = reachedNow
  }
  return { states: seen.size() + last.size() - twice, steps }
}
