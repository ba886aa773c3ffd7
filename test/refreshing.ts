import { expect } from 'vitest'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { Problem } from '../src/http/problem.ts'
import { post, type TestApp } from './support.ts'

type App = Pick<TestApp, 'app'>

/** Signs in as a new guest. */
export const guest = async ({ app }: App) => SignedInResponse.parse(await (await post(app, '/auth/guest', {})).json())

export const refresh = ({ app }: App, refresh_token: string) => post(app, '/auth/refresh', { refresh_token })

/** The next refresh token; fails where there is none. */
export async function refreshed(t: App, token: string): Promise<string> {
  const answer = await refresh(t, token)
  expect(answer.status).toBe(200)
  return SignedInResponse.parse(await answer.json()).refresh_token
}

export async function expectRefused(t: App, token: string): Promise<void> {
  const answer = await refresh(t, token)
  expect(answer.status).toBe(401)
  expect(Problem.parse(await answer.json()).code).toBe('invalid_refresh_token')
}
