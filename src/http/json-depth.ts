/** Levels of nesting that free-form JSON may have; recursion over more could exhaust the stack. */
const MAX_DEPTH = 32

/** Whether a parsed JSON value is nested no deeper than we handle. */
export function isShallow(value: unknown, levels = MAX_DEPTH): boolean {
  if (typeof value !== 'object' || value === null) return true
  return levels > 0 && Object.values(value).every((inner) => isShallow(inner, levels - 1))
}
