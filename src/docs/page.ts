import { createHash } from 'node:crypto'
import { html, raw } from 'hono/html'
import { type ApiDocument, type Operation, operationsOf, PROBLEM_LIST, problemCodes } from './openapi.ts'
import { inline, renderSchema, type SchemaLike } from './schema-outline.ts'
import { STYLE } from './style.ts'

type Html = ReturnType<typeof html>
type Described = ReturnType<typeof operationsOf>[number]
interface Media {
  schema?: SchemaLike
  example?: unknown
}

/** The style is named by its hash, so nothing else can be: no script, no picture, no frame, no other host. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

/** A page that shows the document without script and without loading anything. */
export function renderDocs(document: ApiDocument): { html: string; contentSecurityPolicy: string } {
  const operations = operationsOf(document)
  const groups = (document.tags ?? []).map((tag) => ({
    tag,
    members: operations.filter(({ operation }) => operation.tags?.includes(tag.name)),
  }))
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${document.info.title} API</title>
<link rel="icon" href="data:,">
<style>${raw(STYLE)}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<nav aria-label="Contents">
<p class="name"><a href="#content">${document.info.title}</a> <small>${document.info.version}</small></p>
${groups.map(
  ({ tag, members }) =>
    html`<p>${tag.name}</p><ul>${members.map(
      ({ method, path, operation }) =>
        html`<li><a href="#${operation.operationId}"><b class="${method}">${method.toUpperCase()}</b> ${path}</a></li>`,
    )}</ul>`,
)}
<p><a href="#security">Security</a></p>
<p><a href="#problems">Problem codes</a></p>
</nav>
<main id="content">
<h1>${document.info.title} API</h1>
${prose(document.info.description ?? '')}
<p>Base URL <code>${document.servers?.[0]?.url}</code> · <a href="./openapi.json">openapi.json</a> · ${document.info.license?.name} licence</p>
${groups.map(
  ({ tag, members }) => html`<section><h2>${tag.name}</h2><p>${inline(tag.description ?? '')}</p>
${members.map((described) => renderOperation(described, document))}</section>`,
)}
<section id="security"><h2>Security</h2>
<dl>${Object.entries(document.components?.securitySchemes ?? {}).map(
    ([name, scheme]) => html`<dt><code>${name}</code></dt><dd>${inline(scheme.description ?? '')}</dd>`,
  )}</dl></section>
<section id="problems"><h2>Problem codes</h2>
<div class="wide" tabindex="0" role="region" aria-label="Problem codes"><table><thead><tr><th>code</th><th>status</th><th>what it means</th><th>what to do</th></tr></thead>
<tbody>${PROBLEM_LIST.map(
    ({ code, status, means, todo }) =>
      html`<tr id="problem-${code}"><td><code>${code}</code></td><td>${status}</td><td>${inline(means)}</td><td>${inline(todo)}</td></tr>`,
  )}</tbody></table></div></section>
</main>
</body>
</html>`
  return { html: String(page), contentSecurityPolicy: CONTENT_SECURITY_POLICY }
}

function renderOperation({ method, path, operation }: Described, document: ApiDocument): Html {
  const body = operation.requestBody && 'content' in operation.requestBody ? operation.requestBody : undefined
  return html`<article id="${operation.operationId}">
<h3><a href="#${operation.operationId}"><b class="${method}">${method.toUpperCase()}</b> <code>${path}</code></a></h3>
<p>${operation.summary}. ${inline(operation.description ?? '')}</p>
<p class="security">${renderSecurity(operation)}</p>
${renderParameters(operation)}
${body ? html`<h4>Body${body.required ? '' : ' (may be left out)'}</h4>${renderContent(body.content, document)}` : ''}
<h4>Answers</h4>
${Object.entries(operation.responses ?? {}).map(([status, response]) =>
  '$ref' in response ? '' : renderResponse(status, response, document),
)}
</article>`
}

function renderSecurity({ security = [] }: Operation): Html {
  const ways = security.flatMap((way) => Object.entries(way))
  if (ways.length === 0) return html`Public.`
  const optional = security.some((way) => Object.keys(way).length === 0)
  const shown = ways.map(
    ([name, scopes], index) =>
      html`${index > 0 ? ' or ' : ''}<a href="#security"><code>${name}</code></a>${scopes.length > 0 ? html` with scope <code>${scopes.join(' ')}</code>` : ''}`,
  )
  return html`Needs ${shown}${optional ? ', or nothing' : ''}.`
}

function renderParameters({ parameters = [] }: Operation): Html {
  const shown = parameters.flatMap((parameter) => ('name' in parameter ? [parameter] : []))
  if (shown.length === 0) return html``
  return html`<h4>Parameters</h4><ul class="schema">${shown.map(
    (parameter) =>
      html`<li><code>${parameter.name}</code> <i>in ${parameter.in}${parameter.required ? ', required' : ''}</i> ${renderSchema((parameter.schema ?? {}) as SchemaLike, {})}</li>`,
  )}</ul>`
}

function renderResponse(
  status: string,
  response: { description: string; headers?: object; content?: Record<string, object> },
  document: ApiDocument,
): Html {
  const content = Object.entries(response.content ?? {})
  const codes = content.flatMap(([, media]) => problemCodes((media as Media).schema) ?? [])
  if (codes.length > 0) {
    return html`<p class="answer"><b>${status}</b> ${codes.map(
      (code, index) => html`${index > 0 ? ', ' : ''}<a href="#problem-${code}"><code>${code}</code></a>`,
    )}</p>`
  }
  return html`<details class="answer"><summary><b>${status}</b> ${response.description}</summary>${renderContent(response.content ?? {}, document)}</details>`
}

function renderContent(content: Record<string, object>, document: ApiDocument): Html {
  const schemas = (document.components?.schemas ?? {}) as Record<string, SchemaLike>
  return html`${Object.entries(content).map(([type, media]) => {
    const { schema, example } = media as Media
    return html`<p><code>${type}</code></p>${schema ? renderSchema(schema, schemas) : ''}
${example === undefined ? '' : html`<pre tabindex="0">${JSON.stringify(example, null, 2)}</pre>`}`
  })}`
}

/** Blank lines part paragraphs. */
const prose = (text: string): Html => html`${text.split('\n\n').map((paragraph) => html`<p>${inline(paragraph)}</p>`)}`
