/**
 * The service's times. The wall clock can step forward or back, whether the service runs or not, so it serves only for
 * dates that people and other systems (JWT, LiveKit) read. All times are whole milliseconds.
 */
export interface Clock {
  /** The wall clock: milliseconds since the epoch. */
  now(): number
  /** Orders and ages what is known of sessions. Advances at real time's pace, also across restarts, and never steps. */
  steady(): number
  /**
   * Decides what has expired. The latest time it can be: never behind `now` or `steady`, and it never goes back. It
   * follows a step forward, which may be real (the machine slept), and keeps that lead when the step is undone.
   */
  latest(): number
  /** The most that any process on the store may read as `steady` now: ages what must not count for too long. */
  upper(): number
  /**
   * `since` is `upper` that many milliseconds ago, but not before the process started or the wall clock's last step. A sleep
   * stops `steady` and shows as a step, unless it was shorter than one, or stopped the wall clock as well (a paused virtual
   * machine): then evidence is as much older. `until` is later than any process on the store may read now.
   */
  fresh(milliseconds: number): Fresh
  /**
   * Calls back once per detected step, with its size in milliseconds: negative when the clock went back. Reports a step
   * back that happened while no process ran at once.
   */
  onStep(listener: (milliseconds: number) => void): void
}

/** Between these `steady` times, what was observed is fresh. */
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
  /** How many milliseconds the `elapsed` of another process on the same store may be ahead; 0 when there is none. */
  behind?(): number
  /** `latest` of all processes on the store; by default this one's own. */
  latest?(): number
  /** Whether PostgreSQL's clock tells the same time, so that all instances on a database can share it. */
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
/** Each step adds a millisecond to the process that noticed it, so another one's times may be ahead by a few. */
const STEPS_MS = 100

/** A clock that continues from the last stored times, whatever the wall clock says now. */
export function createClock(source: TimeSource, last?: LastTimes): Clock {
  const now = source.wall()
  // What passed while no process ran, by the wall clock, the only one that knows. A migrated store does not know its `now`.
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
    for (const listener of listeners) listener(Math.round(step))
    return now
  }

  function upper(): number {
    read()
    return Math.floor(steady + behind())
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
    upper,
    fresh(milliseconds) {
      const most = upper()
      return { since: Math.max(most - milliseconds, continuousSince), until: most + STEPS_MS }
    },
    onStep(listener) {
      const setBack = wall() - start.now
      if (setBack <= -STEP_MS) listener(setBack)
      listeners.push(listener)
    },
  }
}
