import { ProblemError, problemOf, unreachable } from './problem.ts'

/** `globalThis.fetch`, or anything like it: a proxy's, a test's `app.request`. */
export type Fetch = (input: string | URL | Request, init?: RequestInit) => Response | Promise<Response>

/** A fetch that resolves only to successful answers of the service. */
export type Send = (input: string | URL | Request, init?: RequestInit) => Promise<Response>

/** What a request carries besides its method and path. */
export interface Content {
  query?: object
  /** Sent as JSON. */
  json?: object
  form?: Record<string, string>
  headers?: Record<string, string>
  signal?: AbortSignal | undefined
}

/** The service's HTTP API; refusals are thrown. */
export function api(url: string, send: Send) {
  const base = url.replace(/\/+$/, '')

  function open(method: string, path: string, { query, json, form, headers, signal }: Content = {}): Promise<Response> {
    const params = new URLSearchParams()
    for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) params.set(name, String(value))
    // The slash keeps a path from becoming part of the host's name.
    const target = `${base}/${path.replace(/^\/+/, '')}${params.size > 0 ? `?${params}` : ''}`
    const type = json === undefined ? {} : { 'Content-Type': 'application/json' }
    return send(target, {
      method,
      headers: { ...type, ...headers },
      ...(json === undefined ? {} : { body: JSON.stringify(json) }),
      ...(form === undefined ? {} : { body: new URLSearchParams(form) }),
      ...(signal ? { signal } : {}),
    })
  }

  /** The answer's shape is not checked. */
  async function call<T>(method: string, path: string, content?: Content): Promise<T> {
    const response = await open(method, path, content)
    return (response.status === 204 ? undefined : await response.json()) as T
  }

  return { open, call }
}

export type Api = ReturnType<typeof api>

// A browser's fetch throws when called as a method of anything but the window.
const globalFetch: Fetch = (input, init) => globalThis.fetch(input, init)

/** @throws ProblemError for a refusal, no answer, or an answer that did not come from the service */
export function transport(fetch: Fetch = globalFetch): Send {
  return async (input, init) => {
    try {
      const response = await fetch(input, init)
      if (!response.ok) throw await problemOf(response)
      if (response.status === 204 || isType(response, 'text/event-stream')) return response
      if (!isType(response, 'application/json')) {
        throw new ProblemError('unexpected_answer', 'The answer is not JSON.', { status: response.status })
      }
      // Read here, so that a truncated answer counts as no answer.
      return new Response(await response.text(), { status: response.status, headers: response.headers })
    } catch (error) {
      if (error instanceof ProblemError) throw error
      init?.signal?.throwIfAborted()
      throw unreachable(error)
    }
  }
}

const isType = (response: Response, type: string) => response.headers.get('Content-Type')?.startsWith(type) ?? false

/** An answer that takes longer is given up as `unreachable`. */
export function timed(send: Send, ms: number): Send {
  return async (input, init) => {
    const timeout = AbortSignal.timeout(ms)
    const signal = init?.signal ? AbortSignal.any([init.signal, timeout]) : timeout
    try {
      return await send(input, { ...init, signal })
    } catch (error) {
      init?.signal?.throwIfAborted()
      throw timeout.aborted ? unreachable(error) : error
    }
  }
}
