import type { Page, Request } from 'playwright-core'
import { z } from 'zod'
import type { User } from '../e2e/api.ts'
import { until } from '../e2e/processes.ts'

const Ids = z.object({ user: z.object({ id: z.string() }).optional(), session_id: z.string().optional() })

/** The user of the page, read from the page's own requests. */
export interface Person {
  user: () => Promise<User>
  sessionId: () => Promise<string>
}

export function watchPerson(page: Page): Person {
  let bearer: string | undefined
  let userId: string | undefined
  let sessionId: string | undefined
  page.on('request', (request: Request) => {
    bearer = request.headers().authorization?.replace('Bearer ', '') ?? bearer
  })
  page.on('response', async (response) => {
    const { pathname } = new URL(response.url())
    if (!response.ok() || !(pathname === '/token' || pathname.startsWith('/auth/'))) return
    const ids = Ids.safeParse(await response.json().catch(() => undefined)).data
    userId = ids?.user?.id ?? userId
    sessionId = ids?.session_id ?? sessionId
  })
  return {
    user: () => until('the page is signed in', () => (userId && bearer ? { id: userId, bearer } : undefined)),
    sessionId: () => until('the page has a session', () => sessionId),
  }
}
