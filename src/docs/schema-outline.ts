import { html } from 'hono/html'

/** The parts of a JSON Schema that our documents use. */
export interface SchemaLike {
  $ref?: string
  type?: string | string[]
  format?: string
  description?: string
  enum?: unknown[]
  default?: unknown
  required?: string[]
  properties?: Record<string, SchemaLike>
  items?: SchemaLike
  allOf?: SchemaLike[]
  additionalProperties?: boolean | SchemaLike
}

type Html = ReturnType<typeof html>
type Named = Readonly<Record<string, SchemaLike>>

/** Backticks mark code; nothing else of Markdown is used in descriptions. */
export const inline = (text: string): Html =>
  html`${text.split('`').map((part, index) => (index % 2 === 1 ? html`<code>${part}</code>` : part))}`

/** A schema as nested lists; none of ours is recursive. */
export function renderSchema(schema: SchemaLike, named: Named): Html {
  const resolved = merge(schema, named)
  const inner = resolved.items ? merge(resolved.items, named) : resolved
  const members = Object.entries(inner.properties ?? {})
  const note = resolved.description ? html` ${inline(resolved.description)}` : ''
  return html`<i>${typeOf(resolved, named)}</i>${note}${
    members.length === 0
      ? ''
      : html`<ul class="schema">${members.map(
          ([name, member]) =>
            html`<li><code>${name}</code>${inner.required?.includes(name) ? '' : html`<i>?</i>`} ${renderSchema(member, named)}</li>`,
        )}</ul>`
  }`
}

/** References followed and `allOf` joined into one object. */
function merge(schema: SchemaLike, named: Named): SchemaLike {
  const target = schema.$ref ? named[schema.$ref.slice('#/components/schemas/'.length)] : undefined
  if (target) return merge(target, named)
  if (!schema.allOf) return schema
  const parts = schema.allOf.map((part) => merge(part, named))
  return {
    ...schema,
    type: 'object',
    properties: Object.assign({}, ...parts.map(({ properties }) => properties)),
    required: parts.flatMap(({ required }) => required ?? []),
  }
}

function typeOf(schema: SchemaLike, named: Named): string {
  const { type, format, items } = schema
  const name =
    schema.enum?.map((value) => JSON.stringify(value)).join(' | ') ??
    (items ? `list of ${typeOf(merge(items, named), named)}` : [type ?? 'any'].flat().join(' | '))
  const suffix = schema.default === undefined ? '' : `, default ${JSON.stringify(schema.default)}`
  return `${name}${format ? ` (${format})` : ''}${suffix}`
}
