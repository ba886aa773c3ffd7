import { isIPv6 } from 'node:net'
import type { Context } from 'hono'
import type { AppEnv } from './router.ts'

/**
 * What stands for the client in limits: its IPv4 address, or the /64 of its IPv6 address, since one client has all of a /64.
 * It is the peer of the connection; X-Forwarded-For is never read, because clients write into it.
 */
export function clientAddress(c: Context<AppEnv>): string {
  return addressKey(c.env?.incoming?.socket.remoteAddress ?? 'unknown')
}

export function addressKey(address: string): string {
  const mapped = /^::ffff:(\d+(?:\.\d+){3})$/i.exec(address)?.[1]
  if (mapped) return mapped
  const [plain = ''] = address.split('%')
  if (!isIPv6(plain)) return address
  const [head = '', tail] = plain.toLowerCase().split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) {
    const after = tail === '' ? [] : tail.split(':')
    // An IPv4 ending counts for two groups; it lies outside the first 64 bits either way.
    const missing = 8 - groups.length - after.length - (tail.includes('.') ? 1 : 0)
    groups.push(...Array<string>(missing).fill('0'), ...after)
  }
  const network = groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16))
  return `${network.join(':')}::/64`
}
