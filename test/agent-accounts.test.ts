import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { type AgentCredentials, createAgentAccounts } from '../src/agent/accounts.ts'
import { DEFAULT_SCOPES, SCOPES, type Scope } from '../src/auth/scopes.ts'
import { agentToken, basic, GRANT, guardedRoute, requestToken } from './agent-client.ts'
import { makeApp } from './support.ts'

const MINUTE_MS = 60_000

/** An app with one agent account. */
async function appWithAgent(scopes: readonly Scope[] = SCOPES) {
  const test = await makeApp()
  const accounts = createAgentAccounts(test.store)
  return { ...test, test, accounts, agent: await accounts.create('tutor', scopes) }
}

describe('agent accounts', () => {
  it('get a secret of 256 random bits, of which only the SHA-256 is stored', async () => {
    const { agent, accounts, store } = await appWithAgent()
    expect(Buffer.from(agent.secret, 'base64url')).toHaveLength(32)
    const stored = await store.agents.findAgent(agent.id)
    expect(stored?.secretHash).toBe(createHash('sha256').update(agent.secret).digest('hex'))
    expect(JSON.stringify(stored)).not.toContain(agent.secret)
    expect(JSON.stringify(await accounts.list())).not.toContain(stored?.secretHash)
  })

  it('cannot reuse a name, not even a disabled agent’s', async () => {
    const { accounts } = await appWithAgent()
    await expect(accounts.create('tutor', SCOPES)).rejects.toMatchObject({
      message: expect.stringContaining('already exists'),
    })
    await accounts.disable('tutor')
    await expect(accounts.create('tutor', SCOPES)).rejects.toMatchObject({
      message: expect.stringContaining('already exists'),
    })
  })

  it('are created once when two requests for one name race', async () => {
    const { accounts } = await appWithAgent()
    const outcomes = await Promise.allSettled([accounts.create('twin', SCOPES), accounts.create('twin', SCOPES)])
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  it.each(['', 'a', 'Tutor', '1st', 'user_1', 'agent-x', 'a b', 'ä'.repeat(3), `a${'b'.repeat(63)}`])(
    'cannot have the name "%s"',
    async (name) => {
      const { accounts } = await appWithAgent()
      await expect(accounts.create(name, SCOPES)).rejects.toMatchObject({
        message: expect.stringContaining('A name has 2 to 63 characters'),
      })
    },
  )

  it('that do not exist are named to the operator only', async () => {
    const { accounts } = await appWithAgent()
    for (const verb of [accounts.disable, accounts.enable, accounts.rekey]) {
      await expect(verb('nobody')).rejects.toMatchObject({ message: 'No agent is named nobody.' })
    }
  })

  it('include a first agent that is created only once', async () => {
    const { store } = await makeApp()
    const accounts = createAgentAccounts(store)
    const made = await Promise.all([accounts.createFirst('dev'), accounts.createFirst('other')])
    const [first, ...others] = made.filter((one) => one !== null)
    expect(first).toEqual({ id: expect.any(String), secret: expect.any(String), scopes: [...DEFAULT_SCOPES] })
    expect(others).toEqual([])
    expect((await accounts.list()).map(({ id }) => id)).toEqual([first?.id])
  })

  it('that were disabled are refused; once enabled again they are accepted, except with tokens from before', async () => {
    const { test, app, agent, accounts, clock } = await appWithAgent()
    const ask = guardedRoute(test, 'progress:write')
    const token = await agentToken(app, agent)
    expect(await ask(token)).toMatchObject({ status: 200, agent: 'tutor' })
    await accounts.disable(agent.id)
    const since = clock.now()
    expect(await ask(token)).toMatchObject({ status: 403, code: 'agent_disabled' })
    clock.advance(60)
    await accounts.disable(agent.id)
    expect(await accounts.list()).toMatchObject([{ id: 'tutor', disabledAt: since }])
    await accounts.enable(agent.id)
    expect(await ask(token)).toMatchObject({ status: 401, code: 'invalid_token' })
    const fresh = await agentToken(app, agent)
    expect(await ask(fresh)).toMatchObject({ status: 200 })
    // It was not disabled.
    await accounts.enable(agent.id)
    expect(await ask(fresh)).toMatchObject({ status: 200 })
  })

  it('that got a new secret are refused with the old one and with tokens issued before', async () => {
    const { test, app, agent, accounts } = await appWithAgent(['progress:write'])
    const ask = guardedRoute(test, 'progress:write')
    const token = await agentToken(app, agent)
    const renewed = await accounts.rekey(agent.id)
    const secret = expect.any(String)
    expect(renewed).toEqual({ id: agent.id, secret, scopes: ['progress:write'], oldSecretUntil: null })
    expect(renewed.secret).not.toBe(agent.secret)
    expect(await ask(token)).toMatchObject({ status: 401, code: 'invalid_token' })
    expect((await requestToken(app, GRANT, basic(agent.id, agent.secret))).status).toBe(401)
    expect(await ask(await agentToken(app, renewed))).toMatchObject({ status: 200 })
  })

  it('that got a new secret with an overlap may use both until it ends, and older tokens until they expire', async () => {
    const { test, app, agent, accounts, clock } = await appWithAgent(['progress:write'])
    const ask = guardedRoute(test, 'progress:write')
    const signIn = async ({ id, secret }: AgentCredentials) =>
      (await requestToken(app, GRANT, basic(id, secret))).status
    const token = await agentToken(app, agent)
    const renewed = await accounts.rekey(agent.id, 10 * MINUTE_MS)
    expect(renewed.oldSecretUntil).toBe(clock.now() + 10 * MINUTE_MS)
    expect(await accounts.list()).toMatchObject([{ oldSecretUntil: renewed.oldSecretUntil }])
    expect([await signIn(agent), await signIn(renewed)]).toEqual([200, 200])
    expect(await ask(token)).toMatchObject({ status: 200 })
    clock.advance(10 * 60 - 1)
    expect([await signIn(agent), await signIn(renewed)]).toEqual([200, 200])
    clock.advance(1)
    expect([await signIn(agent), await signIn(renewed)]).toEqual([401, 200])
    expect(await ask(token)).toMatchObject({ status: 200 })
    expect(await accounts.list()).toMatchObject([{ oldSecretUntil: null }])
    clock.advance(5 * 60 + 6)
    expect(await ask(token)).toMatchObject({ status: 401 })
  })

  it('have at most two secrets, and only one after a rekey without overlap', async () => {
    const { test, app, agent: first, accounts } = await appWithAgent(['progress:write'])
    const ask = guardedRoute(test, 'progress:write')
    const signIn = async ({ id, secret }: AgentCredentials) =>
      (await requestToken(app, GRANT, basic(id, secret))).status
    const second = await accounts.rekey(first.id, 10 * MINUTE_MS)
    const third = await accounts.rekey(first.id, 10 * MINUTE_MS)
    expect([await signIn(first), await signIn(second), await signIn(third)]).toEqual([401, 200, 200])
    const token = await agentToken(app, second)
    const last = await accounts.rekey(first.id)
    expect([await signIn(second), await signIn(third), await signIn(last)]).toEqual([401, 401, 200])
    expect(await ask(token)).toMatchObject({ status: 401 })
  })

  it('that are disabled cannot sign in with either secret', async () => {
    const { app, agent, accounts } = await appWithAgent()
    const renewed = await accounts.rekey(agent.id, 10 * MINUTE_MS)
    await accounts.disable(agent.id)
    for (const { secret } of [agent, renewed, { secret: '' }]) {
      expect((await requestToken(app, GRANT, basic(agent.id, secret))).status).toBe(401)
    }
  })
})
