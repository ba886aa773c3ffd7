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
  /**
   * `steady` that many milliseconds ago, but not before the process started or the last step: a query started since is
   * no older than that by any clock, even if the machine slept.
   */
  freshSince(milliseconds: number): number
  /**
   * Calls back once per detected step, with its size in milliseconds: negative when the clock went back. Reports a step
   * back that happened while no process ran at once.
   */
  onStep(listener: (milliseconds: number) => void): void
}

/** Where the time comes from. */
export interface TimeSource {
  /** Milliseconds since the epoch. */
  wall(): number
  /** Milliseconds since any fixed moment; never goes back. */
  elapsed(): number
}

/** The three times as last stored. */
export interface LastTimes {
  now: number
  steady: number
  latest: number
}

export const SYSTEM_TIME: TimeSource = { wall: () => Date.now(), elapsed: () => performance.now() }

/** A smaller difference between the two sources is not a step: reading both takes time, and a wall clock is slewed. */
const STEP_MS = 500
const SLEW = 0.001

/** A clock that continues from the last stored times, whatever the wall clock says now. */
export function createClock({ wall, elapsed }: TimeSource, last?: LastTimes): Clock {
  // What passed while no process ran, by the wall clock, the only one that knows. A migrated store does not know its `now`.
  const away = last && last.now > 0 ? Math.max(0, wall() - last.now) : 0
  /** `steady` minus `elapsed`. */
  let origin = Math.max(wall(), last ? last.steady + Math.max(1, away) : 0) - elapsed()
  let steady = origin + elapsed()
  /** `now` minus `steady`, and the largest value it has had. */
  let difference = wall() - steady
  let lead = Math.max(0, difference, last ? last.latest + away - steady : 0)
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

  return {
    now: read,
    steady() {
      read()
      return Math.floor(steady)
    },
    latest() {
      read()
      return Math.floor(steady + lead)
    },
    freshSince(milliseconds) {
      read()
      return Math.max(Math.floor(steady) - milliseconds, continuousSince)
    },
    onStep(listener) {
      const setBack = last ? wall() - last.now : 0
      if (setBack <= -STEP_MS) listener(setBack)
      listeners.push(listener)
    },
  }
}
