import { decodeJwt, decodeProtectedHeader, type JWTPayload, type ProtectedHeaderParameters } from 'jose'
import type { Report } from './report.ts'
import { livekitSignature, ourSignature, type SignatureDeps, type Verdict } from './signature.ts'
import { allowedBy, forWhom, kindOf, objectOf, WHAT } from './words.ts'

/** Says what a token is, whom it is for, what it allows, and whether it is valid here. */
export async function inspectToken(token: string, deps: SignatureDeps): Promise<Report> {
  const decoded = decode(token)
  if (!decoded) return noJwt(token)
  const { header, claims } = decoded
  const kind = kindOf(header, claims)
  const isOurs = kind === 'user_access' || kind === 'agent_access'
  const isLiveKits = kind.startsWith('livekit_')
  const verdict: Verdict = isOurs
    ? await ourSignature(token, kind, header, claims, deps)
    : isLiveKits
      ? await livekitSignature(token, kind, claims, deps)
      : { signature: 'foreign', problems: ['It is of no kind that is taken here.'], hints: [] }
  const time = timeProblems(claims, deps.clock.now())
  const problems = [...verdict.problems, ...time]
  const { alg, typ, kid } = header
  return {
    kind,
    what: WHAT[kind],
    valid: problems.length === 0 && verdict.signature === 'ours',
    signature: verdict.signature,
    expired: claims.exp !== undefined && claims.exp * 1000 <= deps.clock.now(),
    expiresAt: isoOf(claims.exp),
    for: forWhom(kind, claims),
    allows: allowedBy(kind, claims),
    problems,
    hints: [...verdict.hints, ...(isLiveKits && problems.length > 0 ? troubleshooting(claims) : [])],
    header: { ...(alg ? { alg } : {}), ...(typ ? { typ } : {}), ...(kid ? { kid } : {}) },
    claims,
  }
}

function decode(token: string): { header: ProtectedHeaderParameters; claims: JWTPayload } | undefined {
  try {
    return { header: decodeProtectedHeader(token), claims: decodeJwt(token) }
  } catch {
    return undefined
  }
}

function noJwt(token: string): Report {
  const isOpaque = /^[\w-]{43}$/.test(token)
  return {
    kind: 'no_jwt',
    what: WHAT.no_jwt,
    valid: false,
    signature: 'unknown',
    expired: false,
    expiresAt: null,
    for: [],
    allows: [],
    problems: ['It does not decode as a signed JWT.'],
    hints: isOpaque
      ? [
          'It has the form of a refresh token or of an agent’s secret. Both say nothing by themselves: only their hashes are stored.',
        ]
      : ['A JWT is three parts of base64url with two dots. Was it cut off, or is there more around it?'],
    header: {},
    claims: {},
  }
}

function timeProblems({ exp, nbf }: JWTPayload, now: number): string[] {
  if (exp === undefined) return ['It has no expiry.']
  if (exp * 1000 <= now) return [`It expired at ${isoOf(exp)}.`]
  if (nbf !== undefined && nbf * 1000 > now) return [`It is not valid before ${isoOf(nbf)}.`]
  return []
}

/** ISO 8601, or null for what is no time. */
function isoOf(seconds: unknown): string | null {
  const at = new Date(Number(seconds) * 1000)
  return typeof seconds === 'number' && !Number.isNaN(at.getTime()) ? at.toISOString() : null
}

/** The token guide's three cases. */
function troubleshooting(claims: JWTPayload): string[] {
  const { room } = objectOf(claims.video)
  return [
    'Keys: `keys` in LiveKit’s configuration has to hold the same pair as LIVEKIT_API_KEY and LIVEKIT_API_SECRET here.',
    `Room: the token opens ${room === undefined ? 'no named room' : `the room ${room} only`}, and needs the grant roomJoin.`,
    'Time: join tokens live 15 minutes from POST /token to the first connect; compare the clocks of both machines.',
  ]
}
