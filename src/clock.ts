/**
 * The service's times. The wall clock can step forward or back, whether the service runs or not, so it supplies
 * only dates that people and other systems (JWT, LiveKit) read. All times are whole milliseconds.
 */
export interface Clock {
  /** The wall clock: milliseconds since the epoch. */
  now(): number
  /** Orders and ages what is known about sessions. Advances with real time, across restarts too, and never steps. */
  steady(): number
  /**
   * Decides what has expired: the latest time that it may be. Never behind `now` or `steady`, and never goes back. It
   * follows a step forward, since the machine may have slept, and keeps that lead if the step is undone.
   */
  latest(): number
  /**
   * The earliest time, on `steady`, since which less than so many milliseconds have passed for every process on the store.
   * After a sleep, which shows as a step forward, everything before it counts as that much older. A sleep that is shorter
   * than a step, or that stops the wall clock too (a paused VM), is not noticed.
   */
  since(milliseconds: number): number
  /** As `since`, but not before the process's start or any step. `until` is later than any process on the store reads now. */
  fresh(milliseconds: number): Fresh
  /**
   * Calls back once per detected step, with its size in milliseconds: negative when the clock went back. Reports a step
   * back that happened while no process ran at once.
   */
  onStep(listener: (milliseconds: number) => void): void
}

/** What was observed between these `steady` times is fresh. */
export interface Fresh {
  since: number
  until: number
}

/** Where the time comes from. */
export interface TimeSource {
  /** Milliseconds since the epoch. */
  wall(): number
  /** Milliseconds since any fixed moment; never goes back. */
  elapsed(): number
  /** By how many milliseconds another process's `elapsed` on the same store may be ahead; 0 by default. */
  behind?(): number
  /** `latest` of all processes on the store; by default this one's own. */
  latest?(): number
  /** Whether this is real time: then all instances on a PostgreSQL database share that database's clock. */
  isShared?: boolean
}

/** The three times as last stored. */
export interface LastTimes {
  now: number
  steady: number
  latest: number
}

export const SYSTEM_TIME: TimeSource = { wall: () => Date.now(), elapsed: () => performance.now(), isShared: true }

/** A smaller difference between the two sources is not a step: reading both takes time, and a wall clock is slewed. */
const STEP_MS = 500
const SLEW = 0.001
/** A detected step advances `steady` by a millisecond in that process alone, so another one may be ahead by a few. */
const STEPS_MS = 100

/** A clock that continues from the last stored times, whatever the wall clock says now. */
export function createClock(source: TimeSource, last?: LastTimes): Clock {
  const now = source.wall()
  // The time during which no process ran: only the wall clock knows it. A migrated store has no `now`.
  const away = last && last.now > 0 ? Math.max(0, now - last.now) : 0
  const steady = Math.max(now, last ? last.steady + Math.max(1, away) : 0)
  return runClock(source, { now: last?.now ?? now, steady, latest: last ? last.latest + away : 0 })
}

/** A clock that starts at these times; `now` tells only whether the wall clock was set back before. */
export function runClock({ wall, elapsed, behind = () => 0, latest }: TimeSource, start: LastTimes): Clock {
  /** `steady` minus `elapsed`. */
  let origin = start.steady - elapsed()
  let { steady } = start
  /** `now` minus `steady`, and the largest value it has had. */
  let difference = wall() - steady
  let lead = Math.max(0, difference, start.latest - steady)
  let continuousSince = Math.floor(steady)
  /** The last time before the wall clock stepped forward, and how far it ever did: so long the machine may have slept. */
  let sleptUntil = Number.NEGATIVE_INFINITY
  let slept = 0
  const listeners: Array<(milliseconds: number) => void> = []

  /** Every reading checks both sources, so that a step is detected before the time is used. */
  function read(): number {
    // The wall clock first: time that passes between the two readings must not look like a step forward.
    const now = wall()
    const passed = origin + elapsed() - steady
    steady += passed
    const step = now - steady - difference
    difference += step
    lead = Math.max(lead, difference)
    if (Math.abs(step) < STEP_MS + passed * SLEW) return now
    // Advance by one millisecond, so that everything after the step is later than everything before it.
    origin += 1
    steady += 1
    difference -= 1
    continuousSince = Math.floor(steady)
    if (step > 0) {
      sleptUntil = continuousSince - 1
      slept += step
    }
    for (const listener of listeners) listener(Math.round(step))
    return now
  }

  /** The most that any process on the store reads now. */
  function upper(): number {
    read()
    return Math.floor(steady + behind())
  }

  function since(milliseconds: number): number {
    const from = upper() - milliseconds
    return Math.max(from, Math.min(sleptUntil, from + slept))
  }

  return {
    now: read,
    steady() {
      read()
      return Math.floor(steady)
    },
    latest() {
      read()
      return Math.floor(latest ? Math.max(steady, latest()) : steady + lead)
    },
    since,
    fresh: (milliseconds) => ({
      since: Math.max(since(milliseconds), continuousSince),
      until: upper() + STEPS_MS,
    }),
    onStep(listener) {
      const setBack = wall() - start.now
      if (setBack <= -STEP_MS) listener(setBack)
      listeners.push(listener)
    },
  }
}
