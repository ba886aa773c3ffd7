import { afterEach, describe, expect, test, vi } from 'vitest'
import { type Attempt, createAttemptLimit } from '../src/auth/attempts.ts'
import { AppError } from '../src/errors.ts'
import { createCounters } from '../src/http/counters.ts'
import { from, rateHeaders } from './from-address.ts'
import { refusal } from './scene.ts'
import { makeApp } from './support.ts'

const LIMITED = { status: 429, code: 'rate_limited' }
const ADA = { email: 'ada@example.com', password: 'correct horse' }

afterEach(() => void vi.useRealTimers())

const fakeTime = () => vi.useFakeTimers({ toFake: ['Date', 'performance'] })

describe('password guessing', () => {
  const WRONG = () => Promise.reject(new AppError('invalid_credentials', 'wrong'))
  const BUSY = () => Promise.reject(new AppError('busy', 'busy'))
  const RIGHT = () => Promise.resolve('in')

  function limited(counters = createCounters()) {
    const attempt = createAttemptLimit(counters, {
      perAddress: { name: 'pair', count: 3, windowSeconds: 900 },
      perAccount: { name: 'account', count: 5, windowSeconds: 3600 },
    })
    const code = (
      address: string,
      signIn: () => Promise<unknown>,
      account = ADA.email,
      onStanding: Attempt['onStanding'] = () => {},
    ) =>
      attempt({ account, address, onStanding }, signIn).then(
        () => 'in',
        (error: unknown) => (error instanceof AppError ? error.code : String(error)),
      )
    const times = async (n: number, address: string, signIn: () => Promise<unknown>) => {
      const codes = []
      for (let i = 0; i < n; i++) codes.push(await code(address, signIn))
      return codes
    }
    return { code, times }
  }

  test('is blocked after a number of failures from one address, for that account only and even with the right password', async () => {
    const { code, times } = limited()
    expect(new Set(await times(3, '192.0.2.1', WRONG))).toEqual(new Set(['invalid_credentials']))
    expect(await code('192.0.2.1', WRONG)).toBe('rate_limited')
    expect(await code('192.0.2.1', RIGHT)).toBe('rate_limited')
    expect(await code('192.0.2.1', RIGHT, 'bob@example.com')).toBe('in')
    expect(await code('192.0.2.2', RIGHT)).toBe('in')
  })

  test('gains nothing from simultaneous attempts', async () => {
    const { code } = limited()
    const codes = await Promise.all(Array.from({ length: 20 }, () => code('192.0.2.1', WRONG)))
    expect(codes.filter((one) => one === 'invalid_credentials')).toHaveLength(3)
  })

  test('from many addresses is blocked as well, without locking the owner out of a known address', async () => {
    fakeTime()
    const { code, times } = limited()
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
    const codes = []
    for (let i = 0; i < 20; i++) codes.push(await code(`198.51.100.${i}`, WRONG))
    expect(codes.filter((one) => one === 'invalid_credentials')).toHaveLength(5)
    expect(await code('203.0.113.1', RIGHT)).toBe('rate_limited')
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
    // The known address is limited as well.
    expect(await times(4, '192.0.2.1', WRONG)).toContain('rate_limited')
    // All limits end within the hour.
    vi.advanceTimersByTime(3_600_000)
    expect(await code('203.0.113.1', RIGHT)).toBe('in')
  })

  test('of more accounts than can be tracked locks no owner out, at a known address or a new one', async () => {
    const { code, times } = limited(createCounters(50))
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
    for (let i = 0; i < 1000; i++) await code(`198.51.${i >> 8}.${i & 255}`, WRONG, `made-up-${i}@away.example`)
    for (let i = 0; i < 40; i++) expect(await code('203.0.113.1', RIGHT, `owner${i}@example.com`)).toBe('in')
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
    // The guesses made for one account are still counted after another flood.
    expect(await times(3, '192.0.2.9', WRONG)).not.toContain('rate_limited')
    for (let i = 0; i < 1000; i++) await code(`198.51.${i >> 8}.${i & 255}`, WRONG, `made-up-${i}@away.example`)
    expect(await code('192.0.2.9', WRONG)).toBe('rate_limited')
  })

  test('does not displace tracked failures while the service is busy', async () => {
    const { code, times } = limited(createCounters(2))
    expect(await times(2, '192.0.2.1', WRONG)).not.toContain('rate_limited')
    for (let i = 0; i < 100; i++) await code('198.51.100.1', BUSY, `made-up-${i}@away.example`)
    expect(await times(2, '192.0.2.1', WRONG)).toContain('rate_limited')
  })

  test('from many addresses stays blocked, whatever is tried at once from where the owner signed in', async () => {
    const { code, times } = limited()
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
    for (let i = 0; i < 6; i++) await code(`198.51.100.${i}`, WRONG)
    await times(3, '192.0.2.1', WRONG)
    await Promise.all(Array.from({ length: 20 }, () => code('192.0.2.1', WRONG)))
    for (let i = 0; i < 5; i++) expect(await code(`203.0.113.${i}`, WRONG)).toBe('rate_limited')
  })

  test('is forgiven for the owner’s address after a success, not for other addresses', async () => {
    const { code, times } = limited()
    await times(2, '192.0.2.1', WRONG)
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
    expect(await times(3, '192.0.2.1', WRONG)).not.toContain('rate_limited')
    await times(3, '198.51.100.1', WRONG)
    // Two from before and three new ones.
    expect(await code('198.51.100.2', WRONG)).toBe('rate_limited')
  })

  test('is not counted when the attempt says nothing about the password', async () => {
    const { times } = limited()
    expect(new Set(await times(20, '192.0.2.1', BUSY))).toEqual(new Set(['busy']))
    expect(await times(20, '192.0.2.1', RIGHT)).not.toContain('rate_limited')
  })

  test('gets the same answers for an account at its limit, also where the owner signed in before', async () => {
    const { code } = limited()
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
    const told = async (account: string) => {
      const all: unknown[] = []
      const onStanding: Attempt['onStanding'] = ({ name }, { allowed, remaining }) =>
        void all.push([name, allowed, remaining])
      for (let i = 0; i < 8; i++) all.push(await code(`198.51.100.${i}`, WRONG, account, onStanding))
      for (let i = 0; i < 5; i++) all.push(await code('192.0.2.1', WRONG, account, onStanding))
      return all
    }
    expect(await told(ADA.email)).toEqual(await told('nobody@example.com'))
  })

  test('gets the same answers for an account that does not exist, also where the owner signed in before', async () => {
    const t = await makeApp()
    await from(t, '192.0.2.9', '/auth/register', ADA)
    expect((await from(t, '192.0.2.3', '/auth/login', ADA)).status).toBe(200)
    const answers = async (email: string, address: string) => {
      const seen = []
      for (let i = 0; i < 12; i++) {
        const answer = await from(t, address, '/auth/login', { email, password: 'wrong horse' })
        seen.push([answer.status, ...rateHeaders(answer).map((value) => value?.replace(/;t=\d+/g, ''))])
      }
      return seen
    }
    const known = await answers(ADA.email, '192.0.2.3')
    expect(known.map(([status]) => status)).toEqual([...Array(10).fill(401), 429, 429])
    expect(await answers('nobody@example.com', '192.0.2.3')).toEqual(known)
    // Whatever the case of the letters.
    const again = from(t, '192.0.2.3', '/auth/login', { ...ADA, email: 'ADA@example.com' })
    expect(await refusal(again)).toEqual(LIMITED)
    expect((await from(t, '192.0.2.2', '/auth/login', ADA)).status).toBe(200)
  }, 30_000)
})
