import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Clock, createClock, type LastTimes } from '../src/clock.ts'
import { testClock } from './support.ts'

const change = fc.oneof(
  fc.record({ what: fc.constant('pass' as const), seconds: fc.double({ min: 0, max: 100_000, noNaN: true }) }),
  fc.record({ what: fc.constant('step' as const), seconds: fc.double({ min: -200_000, max: 200_000, noNaN: true }) }),
  fc.record({ what: fc.constant('restart' as const), seconds: fc.double({ min: 0, max: 100_000, noNaN: true }) }),
)

test('monotonic times never go back, whatever happens to the wall clock', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
      const machine = testClock()
      let clock = createClock(machine)
      let last = timesOf(clock)
      for (const { what, seconds } of changes) {
        if (what === 'pass') machine.advance(seconds)
        if (what === 'step') machine.step(seconds)
        if (what === 'restart') {
          machine.advance(seconds)
          clock = createClock(machine, last)
        }
        const times = timesOf(clock)
        const passed = times.steady - last.steady
        if (what === 'pass') expect(Math.abs(passed - seconds * 1000)).toBeLessThanOrEqual(1)
        if (what === 'step') expect([0, 1]).toContain(passed)
        // Strictly, so that readings of an earlier process are never mistaken for readings of this one.
        if (what === 'restart') {
          expect(passed).toBeGreaterThan(0)
          expect(passed).toBeGreaterThanOrEqual(Math.floor(seconds * 1000) - 1)
        }
        const isTime = what !== 'step'
        expect(times.latest - last.latest).toBeGreaterThanOrEqual(isTime ? Math.floor(seconds * 1000) - 2 : 0)
        expect(times.latest).toBeGreaterThanOrEqual(Math.floor(times.now))
        expect(times.latest).toBeGreaterThanOrEqual(times.steady)
        last = times
      }
    }),
    { numRuns: 2000 },
  )
})

test('readings from before a clock step are stale after it, and later ones are fresh', () => {
  for (const step of [-1, 1, -86_400, 86_400]) {
    const machine = testClock()
    const clock = createClock(machine)
    machine.advance(100)
    const before = clock.steady()
    machine.step(step)
    expect(clock.fresh(10_000).since).toBeGreaterThan(before)
    expect(clock.fresh(10_000).since).toBeLessThanOrEqual(clock.steady())
    machine.advance(60)
    expect(clock.steady() - clock.fresh(10_000).since).toBe(10_000)
  }
})

const timesOf = (clock: Clock): LastTimes => ({ now: clock.now(), steady: clock.steady(), latest: clock.latest() })
