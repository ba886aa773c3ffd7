import { describe, expect, test } from 'vitest'
import { ConfigError, loadConfig } from '../src/config.ts'
import { addressKey, createClientAddress } from '../src/http/address.ts'
import { createRouter } from '../src/http/router.ts'
import { refusal } from './scene.ts'
import { makeApp } from './support.ts'

describe('an address', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['2001:DB8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:0db8:1::', '2001:db8:1:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['1::2:3:4:192.0.2.1', '1:0:0:2::/64'],
    ['::1', '0:0:0:0::/64'],
  ])('%s is counted as %s', (address, key) => {
    expect(addressKey(address)).toBe(key)
  })
})

/** What a request is counted as, that came from a peer with some X-Forwarded-For. */
async function addressOf(proxies: string[], peer: string | undefined, forwarded?: string) {
  const address = createClientAddress(proxies)
  const app = createRouter()
  app.get('/', (c) => c.text(address(c)))
  const headers: Record<string, string> = forwarded === undefined ? {} : { 'X-Forwarded-For': forwarded }
  const answer = await app.request('/', { headers }, peer && { incoming: { socket: { remoteAddress: peer } } })
  return answer.text()
}

describe('X-Forwarded-For', () => {
  const PROXIES = ['10.0.0.0/8', '192.168.1.1', '2001:db8:cafe::/48']

  test.each([
    ['no proxy is trusted', [], '10.0.0.1', '203.0.113.1', '10.0.0.1'],
    ['the peer is no proxy', PROXIES, '198.51.100.1', '203.0.113.1', '198.51.100.1'],
    ['the peer only looks like one', PROXIES, '192.168.1.10', '203.0.113.1', '192.168.1.10'],
  ])('changes nothing when %s (A36)', async (_, proxies, peer, forwarded, expected) => {
    expect(await addressOf(proxies, peer, forwarded)).toBe(expected)
  })

  test.each([
    ['one proxy', '10.0.0.1', '203.0.113.1', '203.0.113.1'],
    ['a proxy by IPv4 in IPv6', '::ffff:10.0.0.1', '203.0.113.1', '203.0.113.1'],
    ['an IPv6 proxy and client', '2001:db8:cafe::5', '2001:db8:1:2:3::4', '2001:db8:1:2::/64'],
    ['a client that wrote one itself', '10.0.0.1', '1.1.1.1, 203.0.113.1', '203.0.113.1'],
    ['a client that wrote a proxy’s', '10.0.0.1', '10.9.9.9, 203.0.113.1', '203.0.113.1'],
    ['two proxies', '10.0.0.1', '1.1.1.1, 203.0.113.1, 192.168.1.1', '203.0.113.1'],
    ['a proxy that adds ports', '10.0.0.1', '203.0.113.1:4711', '203.0.113.1'],
    ['a proxy that adds brackets', '10.0.0.1', '[2001:db8:1:2::3]:4711', '2001:db8:1:2::/64'],
    ['a proxy that says nothing', '10.0.0.1', undefined, '10.0.0.1'],
    ['a proxy that says nonsense', '10.0.0.1', '203.0.113.1, unknown', '10.0.0.1'],
    ['nonsense by the client', '10.0.0.1', '<script>, 203.0.113.1', '203.0.113.1'],
    ['proxies all the way', '10.0.0.1', '10.0.0.3, 10.0.0.2', '10.0.0.3'],
  ])('is trusted when it comes from %s', async (_, peer, forwarded, expected) => {
    expect(await addressOf(PROXIES, peer, forwarded)).toBe(expected)
  })

  test('is optional behind a trusted proxy', async () => {
    expect(await addressOf(PROXIES, undefined, '203.0.113.1')).toBe('unknown')
  })

  test('decides which client’s rate limit a request counts towards (A36)', async () => {
    const env = { TRUSTED_PROXIES: '10.0.0.1, 10.0.0.2', GUESTS_PER_ADDRESS_PER_HOUR: '1' }
    const { app } = await makeApp({ env })
    const guest = (remoteAddress: string, forwarded: string) =>
      app.request(
        '/auth/guest',
        { method: 'POST', headers: { 'Content-Type': 'application/json', 'X-Forwarded-For': forwarded } },
        { incoming: { socket: { remoteAddress } } },
      )
    expect((await guest('10.0.0.1', '203.0.113.1')).status).toBe(201)
    expect((await guest('10.0.0.2', '203.0.113.2')).status).toBe(201)
    const again = await refusal(guest('10.0.0.2', '8.8.8.8, 203.0.113.1'))
    expect(again).toEqual({ status: 429, code: 'rate_limited' })
    expect((await guest('198.51.100.1', '203.0.113.3')).status).toBe(201)
    expect((await guest('198.51.100.1', '203.0.113.4')).status).toBe(429)
  })
})

test('production warns once about X-Forwarded-For from a proxy that is not in TRUSTED_PROXIES', async () => {
  const env = {
    NODE_ENV: 'production',
    PUBLIC_URL: 'https://api.example.com',
    LIVEKIT_URL: 'wss://livekit.example.com',
    LIVEKIT_API_KEY: 'APIproduction',
    LIVEKIT_API_SECRET: 'a-livekit-secret-of-32-characters',
    TRUSTED_PROXIES: '10.0.0.1',
  }
  const { app, logged } = await makeApp({ env })
  const request = (remoteAddress: string, headers: Record<string, string>) =>
    app.request('/health/live', { headers }, { incoming: { socket: { remoteAddress } } })
  const warnings = () => logged().filter(({ msg }) => String(msg).includes('TRUSTED_PROXIES'))
  await request('10.0.0.1', { 'X-Forwarded-For': '203.0.113.1' })
  await request('10.0.0.2', {})
  expect(warnings()).toHaveLength(0)
  for (let i = 0; i < 3; i++) await request('10.0.0.2', { 'X-Forwarded-For': '203.0.113.1' })
  expect(warnings()).toMatchObject([{ level: 40 }])
})

describe('TRUSTED_PROXIES', () => {
  test('is a list of addresses and CIDR ranges, empty by default', () => {
    expect(loadConfig({}).config.trustedProxies).toEqual([])
    const set = loadConfig({ TRUSTED_PROXIES: '10.0.0.1, 2001:db8::/32 ,,' })
    expect(set.config.trustedProxies).toEqual(['10.0.0.1', '2001:db8::/32'])
  })

  test.each(['proxy.example.com', '10.0.0.0/33', '10.0.0.0/x', '10.0.0.1/8/8', '0.0.0.0/0', '::/0', '*', '10.0.0'])(
    'refuses %s',
    (value) => {
      expect(() => loadConfig({ TRUSTED_PROXIES: value })).toThrow(ConfigError)
      expect(() => loadConfig({ TRUSTED_PROXIES: value })).toThrow(/TRUSTED_PROXIES: must be/)
    },
  )
})
