import type { JWTPayload } from 'jose'

export type TokenKind =
  | 'user_access'
  | 'agent_access'
  | 'livekit_join'
  | 'livekit_webhook'
  | 'livekit_api'
  | 'unknown'
  | 'no_jwt'

/** What there is to say about a token; never the token itself. */
export interface Report {
  kind: TokenKind
  /** One sentence. */
  what: string
  valid: boolean
  signature: 'ours' | 'foreign' | 'unknown'
  expired: boolean
  /** ISO 8601; null without an expiry. */
  expiresAt: string | null
  for: string[]
  allows: string[]
  /** Why it is not valid here. */
  problems: string[]
  /** What to look at; no reason to refuse it. */
  hints: string[]
  header: { alg?: string; typ?: string; kid?: string }
  claims: JWTPayload
}

/** The report for people. */
export function reportText(report: Report, now: number): string {
  const { what, signature, expiresAt, problems, hints } = report
  const lines = [
    what,
    '',
    `valid      ${report.valid ? 'yes' : 'no'}`,
    ...(report.kind === 'no_jwt'
      ? []
      : [
          `signature  ${SIGNATURES[signature]}`,
          `expires    ${expiresAt ? whenWords(expiresAt, now) : 'never says so'}`,
        ]),
    ...list('for', report.for),
    ...list('allows', report.allows),
    ...list('problem', problems),
    ...list('hint', hints),
    ...(report.kind === 'no_jwt' ? [] : ['', ...claimLines(report)]),
  ]
  return lines.join('\n')
}

const claimLines = ({ header, claims }: Report) =>
  JSON.stringify({ header, claims }, null, 2).split('\n').map(printable)

const SIGNATURES = { ours: 'ours', foreign: 'not ours', unknown: 'cannot be checked here' }

const list = (label: string, items: string[]) =>
  items.map((item, index) => `${(index === 0 ? label : '').padEnd(10)} ${printable(item)}`)

/** Claims are whatever the signer wrote: nothing of them may steer a terminal or look like a line of ours. Keeps JSON valid. */
export const printable = (text: string): string =>
  text.replace(/\p{C}/gu, (character) =>
    Array.from({ length: character.length }, (_, i) => `\\u${hex4(character.charCodeAt(i))}`).join(''),
  )

const hex4 = (code: number) => code.toString(16).padStart(4, '0')

function whenWords(iso: string, now: number): string {
  const seconds = Math.round((Date.parse(iso) - now) / 1000)
  const span = spanWords(Math.abs(seconds))
  return seconds > 0 ? `${iso}, in ${span}` : `${iso}, ${span} ago`
}

function spanWords(seconds: number): string {
  const [size, unit] =
    seconds < 120
      ? [1, 'second']
      : seconds < 7200
        ? [60, 'minute']
        : seconds < 172_800
          ? [3600, 'hour']
          : [86_400, 'day']
  const count = Math.floor(seconds / Number(size))
  return `${count} ${unit}${count === 1 ? '' : 's'}`
}
