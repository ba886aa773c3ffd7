import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { Metrics } from '../metrics.ts'

/** LiveKit's leeway for the times in a token, and the service's for LiveKit's. */
export const SKEW_SECONDS = 60
/** A network delay or a second attempt looks like a smaller difference. */
const TOLERATED_MS = 5000
const REPEAT_MS = 10 * 60_000

/** Milliseconds that this machine's clock is ahead of LiveKit's (negative: behind), and what shows it. */
export type ReportSkew = (aheadMs: number, by: 'answer' | 'webhook' | 'refused webhook') => void

export const inWords = (aheadMs: number): string =>
  `${Math.round(Math.abs(aheadMs) / 1000)} s ${aheadMs > 0 ? 'ahead of' : 'behind'} LiveKit’s`

/** Warns while the clocks differ, once in ten minutes for each kind of evidence. */
export function createSkewWarning(log: Logger, clock: Clock, metrics: Pick<Metrics, 'clockSkew'>): ReportSkew {
  const warnedAt = new Map<string, number>()
  return (aheadMs, by) => {
    if (by === 'answer') metrics.clockSkew.set(aheadMs / 1000)
    const last = warnedAt.get(by) ?? Number.NEGATIVE_INFINITY
    if (Math.abs(aheadMs) <= TOLERATED_MS || clock.steady() - last < REPEAT_MS) return
    warnedAt.set(by, clock.steady())
    const effect = `beyond ${SKEW_SECONDS} s, tokens and webhooks are refused. Synchronise the clocks (NTP).`
    log.warn({ by }, `by LiveKit’s ${by}, this machine’s clock is ${inWords(aheadMs)}: ${effect}`)
  }
}
