/** Levels of nesting allowed in free-form JSON; recursion over more could exhaust the stack. */
const MAX_DEPTH = 32

/** Whether a parsed JSON value is nested no deeper than the service allows. */
export function isShallow(value: unknown, levels = MAX_DEPTH): boolean {
  if (typeof value !== 'object' || value === null) return true
  return levels > 0 && Object.values(value).every((inner) => isShallow(inner, levels - 1))
}

/** A string and the colon that makes it a member's name, a brace, a number. */
const TOKENS = /("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|[{}]|-?\d[\d.eE+-]*/g
/** Of a name or number that a problem repeats. */
const MAX_SHOWN = 40

/**
 * Parses JSON that means the same after it is parsed and written again (I-JSON, RFC 7493). Anything else has a problem,
 * returned as a predicate, such as a repeated name, or a number that a double cannot hold.
 */
export function parseJson(text: string): { value: unknown } | { problem: string } {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return { problem: 'is not valid JSON' }
  }
  const problem = problemOf(text)
  return problem === undefined ? { value } : { problem }
}

/** For valid JSON only: there every quote has its partner, so the pattern never backtracks far. */
function problemOf(json: string): string | undefined {
  const objects: Array<Set<string>> = []
  for (const [token, string, colon] of json.matchAll(TOKENS)) {
    if (token === '{') objects.push(new Set())
    else if (token === '}') objects.pop()
    else if (string === undefined) {
      if (!isExact(token))
        return `holds the number ${token.slice(0, MAX_SHOWN)}, which loses digits: send it as a string`
    } else if (colon !== undefined || string.includes('\\u')) {
      const content = JSON.parse(string) as string
      if (/\p{Surrogate}/u.test(content)) return 'holds half of a surrogate pair'
      if (colon === undefined) continue
      const names = objects.at(-1)
      if (content === '__proto__') return 'has a member named __proto__, which is not accepted'
      if (names?.has(content)) return `has two members named ${content.slice(0, MAX_SHOWN)} in one object`
      names?.add(content)
    }
  }
  return undefined
}

/** Whether a double holds the number as it is written (RFC 7493 §2.2). */
function isExact(literal: string): boolean {
  if (literal.length < 16 && !/e/i.test(literal)) return true
  const number = Number(literal)
  if (/^-?\d+$/.test(literal)) return Number.isSafeInteger(number)
  const digits = significantDigits(literal)
  return digits.length <= 17 && significantDigits(number.toPrecision(Math.max(1, digits.length))) === digits
}

/** The lookbehind lets a match begin only at a run's first zero: otherwise a long run takes quadratic time. */
const significantDigits = (literal: string) =>
  literal
    .replace(/e.*$/i, '')
    .replace(/\D/g, '')
    .replace(/^0+|(?<!0)0+$/g, '')
