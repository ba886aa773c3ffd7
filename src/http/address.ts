import { BlockList, isIP, isIPv6 } from 'node:net'
import type { Context } from 'hono'
import { expandIPv6 } from 'hono/utils/ipaddr'
import type { AppEnv } from './router.ts'

/** The key that identifies a request's client in limits and in the log. */
export type ClientAddress = <E extends AppEnv>(c: Context<E>) => string

/**
 * The client is the connection's peer. If that is a trusted proxy, it is the rightmost address in `X-Forwarded-For`
 * that is not a trusted proxy: the client can write anything further left. `onUntrusted` is called the first time
 * that any other peer sends the header.
 */
export function createClientAddress(
  trustedProxies: readonly string[],
  onUntrusted: () => void = () => {},
): ClientAddress {
  const isTrusted = trustedPeers(trustedProxies)
  let isSilent = false
  return (c) => {
    let address = plainAddress(c.env?.incoming?.socket.remoteAddress ?? '')
    if (address === undefined) return 'unknown'
    if (!isTrusted(address)) {
      if (!isSilent && c.req.header('X-Forwarded-For') !== undefined) {
        isSilent = true
        onUntrusted()
      }
      return addressKey(address)
    }
    const hops = c.req.header('X-Forwarded-For')?.split(',') ?? []
    while (isTrusted(address)) {
      const hop = plainAddress(hops.pop()?.trim() ?? '')
      if (hop === undefined) break
      address = hop
    }
    return addressKey(address)
  }
}

/** Whether an address is one of these proxies, in any form that a socket reports. */
export function trustedPeers(trustedProxies: readonly string[]): (address: string) => boolean {
  const trusted = proxyList(trustedProxies)
  return remembered((text) => {
    const address = plainAddress(text)
    return address !== undefined && trusted.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
  })
}

const MAX_REMEMBERED = 1000
/** Characters: no address is longer. */
const MAX_LENGTH = 64

/** The same function, which takes longer than most checks of a request, with its results for the latest addresses. */
function remembered<T>(work: (text: string) => T): (text: string) => T {
  const results = new Map<string, T>()
  return (text) => {
    if (text.length > MAX_LENGTH) return work(text)
    if (!results.has(text)) {
      if (results.size >= MAX_REMEMBERED) results.clear()
      results.set(text, work(text))
    }
    return results.get(text) as T
  }
}

/**
 * Addresses and CIDR ranges to look peers up in.
 * @throws Error for an entry that is neither, or a range that covers every address
 */
export function proxyList(entries: readonly string[]): BlockList {
  const list = new BlockList()
  for (const entry of entries) {
    const [address = '', prefix, ...rest] = entry.split('/')
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    const isPrefix = prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) > 0)
    if (isIP(address) === 0 || !isPrefix || rest.length > 0)
      throw new Error(`${entry} is neither an address nor a CIDR range`)
    if (prefix === undefined) list.addAddress(address, family)
    else list.addSubnet(address, Number(prefix), family)
  }
  return list
}

const PRIVATE = proxyList([
  ...['127.0.0.0/8', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '169.254.0.0/16', '100.64.0.0/10'],
  ...['::1', 'fc00::/7', 'fe80::/10'],
])

/** Whether a URL's hostname is of this machine or a private network, which the public Internet cannot reach. */
export function isPrivateHost(hostname: string): boolean {
  const address = plainAddress(hostname)
  if (address !== undefined) return PRIVATE.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
  return !hostname.includes('.') || /\.(localhost|local|internal)$/.test(hostname)
}

/** Strips the port, brackets and zone that some proxies and sockets add; IPv4-mapped IPv6 becomes IPv4. */
const plainAddress = remembered((text): string | undefined => {
  const [, bracketed] = /^\[([^\]]*)\](?::\d+)?$/.exec(text) ?? []
  const [, withoutPort] = /^(\d+(?:\.\d+){3}):\d+$/.exec(text) ?? []
  const [address = ''] = (bracketed ?? withoutPort ?? text).split('%')
  const mapped = /^::ffff:(\d+(?:\.\d+){3})$/i.exec(address)?.[1] ?? address
  return isIP(mapped) === 0 ? undefined : mapped
})

/** The IPv4 address, or the IPv6 address's /64, since one client usually controls a whole /64. */
export const addressKey = remembered((text): string => {
  const address = plainAddress(text) ?? text
  if (!isIPv6(address)) return address
  const groups = expandIPv6(address).split(':').slice(0, 4)
  const network = groups.map((group) => Number.parseInt(group, 16).toString(16))
  return `${network.join(':')}::/64`
})
