/** Levels of nesting allowed in free-form JSON; recursion over more could exhaust the stack. */
const MAX_DEPTH = 32

/** Whether a parsed JSON value is nested no deeper than the service allows. */
export function isShallow(value: unknown, levels = MAX_DEPTH): boolean {
  if (typeof value !== 'object' || value === null) return true
  return levels > 0 && Object.values(value).every((inner) => isShallow(inner, levels - 1))
}
