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
    ...JSON.stringify({ header, claims }, null, 2).split('\n').map(printable),
  ].join('\n')
}

const list = (label: string, items: string[]) =>
  items.map((item, index) => `${(index === 0 ? label : '').padEnd(10)} ${printable(item)}`)

/** The signer chose the claims: they must not control the terminal or imitate a line of the report. Keeps JSON valid. */
export const printable = (text: string): string =>
  text.replace(/\p{C}/gu, (character) =>
    Array.from({ length: character.length }, (_, i) => `\\u${hex4(character.charCodeAt(i))}`).join(''),
  )

const hex4 = (code: number) => code.toString(16).padStart(4, '0')

function relative(milliseconds: number): string {
  const minutes = Math.trunc(milliseconds / 60_000)
  const [count, unit] = Math.abs(minutes) < 120 ? ([minutes, 'minute'] as const) : ([minutes / 60, 'hour'] as const)
  return new Intl.RelativeTimeFormat('en').format(Math.trunc(count), unit)
}
