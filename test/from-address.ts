import type { TestApp } from './support.ts'

/** POSTs JSON from an address. */
export const from = ({ app }: Pick<TestApp, 'app'>, address: string, path: string, body: unknown, bearer?: string) =>
  app.request(
    path,
    {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}) },
      body: JSON.stringify(body),
    },
    { incoming: { socket: { remoteAddress: address } } },
  )

/** What an answer says of the limits that counted its request. */
export const rateHeaders = ({ headers }: Response) => [headers.get('RateLimit-Policy'), headers.get('RateLimit')]
