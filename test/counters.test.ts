import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { createCounters } from '../src/http/counters.ts'

afterEach(() => void vi.useRealTimers())

const fakeTime = () => vi.useFakeTimers({ toFake: ['Date', 'performance'] })

describe('a rate counter', () => {
  const QUOTA = { name: 'x', count: 2, windowSeconds: 60 }

  test('admits its limit per window, and again in the next window', async () => {
    fakeTime()
    const counter = createCounters()(QUOTA)
    expect(await counter.count('a')).toEqual({ allowed: true, remaining: 1, resetSeconds: 60 })
    vi.advanceTimersByTime(10_000)
    expect(await counter.count('a')).toEqual({ allowed: true, remaining: 0, resetSeconds: 50 })
    expect(await counter.count('a')).toEqual({ allowed: false, remaining: 0, resetSeconds: 50 })
    expect((await counter.count('b')).allowed).toBe(true)
    vi.advanceTimersByTime(49_999)
    expect(await counter.count('a')).toMatchObject({ allowed: false, resetSeconds: 1 })
    vi.advanceTimersByTime(1)
    expect(await counter.count('a')).toEqual({ allowed: true, remaining: 1, resetSeconds: 60 })
  })

  test('refunds one request, or all', async () => {
    const counter = createCounters()(QUOTA)
    for (let i = 0; i < 3; i++) await counter.count('a')
    await counter.giveBack('a')
    expect((await counter.count('a')).allowed).toBe(false)
    await counter.reset('a')
    expect(await counter.count('a')).toMatchObject({ allowed: true, remaining: 1 })
  })

  test('uses no more memory for a long key than for a short one', async () => {
    const counter = createCounters()(QUOTA)
    const before = process.memoryUsage().heapUsed
    for (let i = 0; i < 10_000; i++) await counter.count(`${i} ${randomBytes(8_000).toString('latin1')}`)
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(50_000_000)
  })

  test('forgets a key when its window ends, to make room for others', async () => {
    fakeTime()
    const counter = createCounters(100)(QUOTA)
    for (const minute of [1, 2, 3]) {
      for (let i = 0; i < 100; i++) expect((await counter.count(`${minute} ${i}`)).remaining).toBe(1)
      vi.advanceTimersByTime(60_000)
    }
  })

  test('does not restart a window when the wall clock is set', async () => {
    fakeTime()
    const counter = createCounters()(QUOTA)
    for (let i = 0; i < 2; i++) await counter.count('a')
    for (const days of [1, -2]) {
      vi.setSystemTime(Date.now() + days * 24 * 60 * 60_000)
      expect(await counter.count('a')).toEqual({ allowed: false, remaining: 0, resetSeconds: 60 })
    }
    vi.advanceTimersByTime(60_000)
    expect((await counter.count('a')).allowed).toBe(true)
  })

  test('forgets keys with low counts when there are too many, before any that has reached its quota', async () => {
    fakeTime()
    const counter = createCounters(100)(QUOTA)
    for (let i = 0; i < 3; i++) await counter.count('guessing')
    await counter.count('owner')
    const flood = []
    for (let i = 0; i < 20_000; i++) flood.push((await counter.count(`made up ${i}`)).allowed)
    expect(new Set(flood)).toEqual(new Set([true]))
    expect((await counter.count('guessing')).allowed).toBe(false)
    expect(await counter.count('owner')).toMatchObject({ allowed: true, remaining: 1 })
    // Once all are at their quota, a new key still gets in.
    for (let i = 0; i < 100; i++) for (let n = 0; n < 3; n++) await counter.count(`filled ${i}`)
    expect(await counter.count('another owner')).toMatchObject({ allowed: true, remaining: 1 })
  })

  test('keeps no entry for a key whose counts were given back', async () => {
    const counter = createCounters(100)(QUOTA)
    for (let i = 0; i < 99; i++) await counter.count(`failed ${i}`)
    for (let i = 0; i < 1000; i++) {
      await counter.count(`busy ${i}`)
      await counter.giveBack(`busy ${i}`)
    }
    for (let i = 0; i < 99; i++) expect(await counter.count(`failed ${i}`)).toMatchObject({ remaining: 0 })
  })
})
