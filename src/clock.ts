/**
 * The service's times. The wall clock can step, forward or back, while the service runs or while it is stopped, so it
 * decides nothing but dates: what people and other systems (JWT, LiveKit) read. All times are whole milliseconds.
 */
export interface Clock {
  /** The wall clock: milliseconds since the epoch. */
  now(): number
  /** Orders and ages what is known of sessions. Goes forward at the pace of real time, also over restarts, and never steps. */
  steady(): number
  /**
   * Decides what has expired. The latest time that it can be: never behind `now` or `steady`, never back. It follows a
   * step forward, which may be real (a machine that slept), and keeps that lead when the step is undone.
   */
  latest(): number
  /**
   * `steady` that many milliseconds ago, but not before the start of the process or the last step: what was asked then or
   * later is no older than that by any clock, a machine that slept included.
   */
  freshSince(milliseconds: number): number
  /**
   * Calls back once for each step that is noticed, with its size in milliseconds: negative when the clock went back. One back
   * while no process ran is told at once.
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

/** The three times as a store last knew them. */
export interface LastTimes {
  now: number
  steady: number
  latest: number
}

export const SYSTEM_TIME: TimeSource = { wall: () => Date.now(), elapsed: () => performance.now() }

/** A smaller difference between the two sources is no step: reading both takes time, and a wall clock is slewed. */
const STEP_MS = 500
const SLEW = 0.001

/** A clock that goes on after the last times that are stored, whatever the wall clock says now. */
export function createClock({ wall, elapsed }: TimeSource, last?: LastTimes): Clock {
  /** `steady` less `elapsed`. */
  let origin = Math.max(wall(), last ? last.steady + 1 : 0) - elapsed()
  let steady = origin + elapsed()
  /** `now` less `steady`, and the greatest that it ever was. */
  let difference = wall() - steady
  let lead = Math.max(difference, last ? last.latest - steady : difference)
  let continuousSince = Math.floor(steady)
  const listeners: Array<(milliseconds: number) => void> = []

  /** Every reading looks at both sources, so that no use of the time comes before a step is noticed. */
  function read(): number {
    // The wall clock first: what passes between the two readings must not look like a step forward.
    const now = wall()
    const passed = origin + elapsed() - steady
    steady += passed
    const step = now - steady - difference
    difference += step
    lead = Math.max(lead, difference)
    if (Math.abs(step) < STEP_MS + passed * SLEW) return now
    // One millisecond on, so that all that follows is later than all that came before.
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
