import fc, { type Arbitrary } from 'fast-check'

/** A JSON Schema as it stands in the document. */
export interface Schema {
  $ref?: string
  type?: string | string[]
  enum?: unknown[]
  const?: unknown
  allOf?: Schema[]
  anyOf?: Schema[]
  oneOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: Schema | boolean
  items?: Schema
  maxItems?: number
  minLength?: number
  maxLength?: number
  pattern?: string
  format?: string
  minimum?: number
  maximum?: number
}

/** Strings that have broken something somewhere. */
export const NASTY = [
  '',
  ' ',
  '\u0000',
  '\ud800',
  '𝕏',
  'ﬃ',
  'e\u0301',
  '__proto__',
  'constructor',
  'toString',
  '../../etc/passwd',
  "' OR 1=1 --",
  '%00',
  '%s%n',
  '\r\nX-Injected: 1',
  '<script>alert(1)</script>',
  '{{7*7}}',
  '#{x}',
  'null',
  'NaN',
  '-0',
  '1e999',
  '9'.repeat(400),
  'x'.repeat(128),
  'x'.repeat(129),
  'x'.repeat(5000),
]

/** Arbitraries of what a schema takes. `known` has values that mean something in a field of that name. */
export function arbitraries(schemas: Record<string, Schema>, known: Record<string, readonly unknown[]>) {
  const resolve = (schema: Schema): Schema =>
    schema.$ref ? (schemas[schema.$ref.replace('#/components/schemas/', '')] ?? {}) : schema

  function valid(given: Schema, name = ''): Arbitrary<unknown> {
    const plain = ofSchema(resolve(given))
    const meant = known[name]
    return meant
      ? fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...meant) }, { weight: 1, arbitrary: plain })
      : plain
  }

  function ofSchema(schema: Schema): Arbitrary<unknown> {
    const { allOf, anyOf, oneOf } = schema
    if (schema.const !== undefined) return fc.constant(schema.const)
    if (schema.enum) return fc.constantFrom(...schema.enum)
    if (allOf) return ofSchema(Object.assign({}, ...allOf.map(resolve)) as Schema)
    const choices = anyOf ?? oneOf
    if (choices) return fc.oneof(...choices.map((one) => valid(one)))
    if (Array.isArray(schema.type)) return fc.oneof(...schema.type.map((type) => ofSchema({ ...schema, type })))
    switch (schema.type) {
      case 'null':
        return fc.constant(null)
      case 'boolean':
        return fc.boolean()
      case 'integer':
        return fc.integer({ min: schema.minimum ?? -1000, max: schema.maximum ?? 1_000_000 })
      case 'number':
        return fc.double()
      case 'string':
        return ofString(schema)
      case 'array':
        return fc.array(valid(schema.items ?? {}), { maxLength: Math.min(schema.maxItems ?? 5, 5) })
      case 'object':
        return ofObject(schema)
      default:
        return fc.jsonValue()
    }
  }

  function ofString({ minLength = 0, maxLength = 200, pattern, format }: Schema): Arbitrary<string> {
    if (format === 'email') return fc.emailAddress()
    // A pattern with a look-ahead is more than fast-check can turn round.
    if (pattern) return fc.constantFrom('progress', 'a', 'x_1.y-z', 'x'.repeat(64))
    const fitting = NASTY.filter(({ length }) => length >= minLength && length <= maxLength)
    return fc.oneof(
      fc.string({ minLength, maxLength: Math.min(maxLength, 60) }),
      fc.string({ minLength, maxLength: Math.min(maxLength, 60), unit: 'binary' }),
      fc.constantFrom('x'.repeat(maxLength), 'x'.repeat(minLength)),
      fc.constantFrom('x'.repeat(minLength), ...fitting),
    )
  }

  function ofObject({ properties = {}, required = [], additionalProperties }: Schema): Arbitrary<unknown> {
    const members = Object.fromEntries(Object.entries(properties).map(([key, inner]) => [key, valid(inner, key)]))
    const own = fc.record(members, { requiredKeys: required.filter((key) => key in members), noNullPrototype: true })
    if (!additionalProperties) return own
    const more = additionalProperties === true ? fc.jsonValue() : valid(additionalProperties)
    return fc
      .tuple(own, fc.dictionary(fc.oneof(fc.string(), fc.constantFrom(...NASTY)), more, { maxKeys: 3 }))
      .map(([first, second]) => ({ ...second, ...first }))
  }

  return { valid }
}

const WRONG: unknown[] = [null, true, 0, -1, 1.5, 1e308, '', [], {}, [[]], { a: 1 }, ...NASTY]

/** Changes that make most valid objects invalid, at one place of it. */
export const mutation = fc.record({
  place: fc.nat(),
  how: fc.oneof(
    fc.constantFrom<'drop' | 'wrap' | 'longer' | 'add' | 'deep'>('drop', 'wrap', 'longer', 'add', 'deep'),
    fc.constantFrom(...WRONG).map((value) => ({ value })),
  ),
})
type Mutation = typeof mutation extends Arbitrary<infer M> ? M : never

/** The value with one change; what is not an object is replaced as a whole. */
export function mutate(value: unknown, { place, how }: Mutation): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return typeof how === 'object' ? how.value : [value]
  const entries = Object.entries(value)
  const [key = 'x', inner] = entries[place % Math.max(entries.length, 1)] ?? []
  if (how === 'drop') return Object.fromEntries(entries.filter(([name]) => name !== key))
  if (how === 'add') return { ...value, unknown: 1, constructor: { prototype: 1 }, toString: null }
  // Further in, now and then.
  if (typeof inner === 'object' && inner !== null && place % 3 === 0)
    return { ...value, [key]: mutate(inner, { place: Math.floor(place / 3), how }) }
  return { ...value, [key]: changed(inner, how) }
}

function changed(inner: unknown, how: Exclude<Mutation['how'], 'drop' | 'add'>): unknown {
  if (typeof how === 'object') return how.value
  if (how === 'wrap') return [inner]
  if (how === 'deep') return JSON.parse(`${'['.repeat(2000)}${']'.repeat(2000)}`)
  return `${JSON.stringify(inner)}${'x'.repeat(5000)}`
}
