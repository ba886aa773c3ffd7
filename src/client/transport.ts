import { hc, type PickResponseByStatusCode } from 'hono/client'
import type { AppType } from '../app.ts'
import { ProblemError, problemOf, unreachable } from './problem.ts'

/** `globalThis.fetch`, or anything like it: a proxy's, a test's `app.request`. */
export type Fetch = (input: string | URL | Request, init?: RequestInit) => Response | Promise<Response>

/** A fetch that only resolves to an answer of the service that is not a refusal. */
export type Send = (input: string | URL | Request, init?: RequestInit) => Promise<Response>

/** The routes as the app declares them; refusals are thrown, so only the other answers are left. */
export const api = (url: string, send: Send) =>
  hc<PickResponseByStatusCode<AppType, 200 | 201 | 204>>(url, { fetch: send })
export type Api = ReturnType<typeof api>

// Called as a method of anything but the window, a browser's fetch throws.
const globalFetch: Fetch = (input, init) => globalThis.fetch(input, init)

/** @throws ProblemError for a refusal, no answer, or one that is not the service's */
export function transport(fetch: Fetch = globalFetch): Send {
  return async (input, init) => {
    try {
      const response = await fetch(input, init)
      if (!response.ok) throw await problemOf(response)
      if (response.status === 204 || isType(response, 'text/event-stream')) return response
      if (!isType(response, 'application/json')) {
        throw new ProblemError('unexpected_answer', 'The answer is not JSON.', { status: response.status })
      }
      // Read here, so that an answer cut short counts as none.
      return new Response(await response.text(), { status: response.status, headers: response.headers })
    } catch (error) {
      if (error instanceof ProblemError) throw error
      init?.signal?.throwIfAborted()
      throw unreachable(error)
    }
  }
}

const isType = (response: Response, type: string) => response.headers.get('Content-Type')?.startsWith(type) ?? false

/** Gives up on an answer that takes longer: `unreachable`. */
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

/** The second argument of a typed call: its signal, if there is one. */
export const aborting = (signal: AbortSignal | undefined) => (signal ? { init: { signal } } : {})
