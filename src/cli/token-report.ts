import { printable } from '../http/text.ts'
import type { Report } from './token-inspect.ts'

const SIGNATURES = { ours: 'verified', foreign: 'not verified', unknown: 'cannot be checked here' }

/** The report as text. */
export function reportText(report: Report, now: number): string {
  const { kind, what, valid, signature, expiresAt, header, claims } = report
  const summary = [what, '', `valid      ${valid ? 'yes' : 'no'}`]
  if (kind === 'no_jwt') return [...summary, ...list('problem', report.problems)].join('\n')
  return [
    ...summary,
    `signature  ${SIGNATURES[signature]}`,
    `expires    ${expiresAt ? `${expiresAt}, ${relative(Date.parse(expiresAt) - now)}` : 'never'}`,
    ...list('for', report.for),
    ...list('allows', report.allows),
    ...list('problem', report.problems),
    '',
    JSON.stringify({ header, claims }, null, 2),
  ].join('\n')
}

/** The signer chose the claims: they must not imitate a line of the report. */
const list = (label: string, items: string[]) =>
  items.map((item, index) => `${(index === 0 ? label : '').padEnd(10)} ${printable(item)}`)

function relative(milliseconds: number): string {
  const minutes = Math.trunc(milliseconds / 60_000)
  const [count, unit] = Math.abs(minutes) < 120 ? ([minutes, 'minute'] as const) : ([minutes / 60, 'hour'] as const)
  return new Intl.RelativeTimeFormat('en').format(Math.trunc(count), unit)
}
