import { upgradeWebSocket } from '@hono/node-server'
import { createRoute } from '@hono/zod-openapi'
import type { Context } from 'hono'
import type { Logger } from 'pino'
import type { RawData, WebSocket } from 'ws'
import { AppError } from '../errors.ts'
import type { ClientAddress } from '../http/address.ts'
import { bearerRefusals, bearerToken } from '../http/bearer.ts'
import { problems } from '../http/problem.ts'
import { countRequest, type RateLimits } from '../http/rate-limit.ts'
import { type AppEnv, createRouter } from '../http/router.ts'
import { fullStatus, readServerMessage, readWorkerMessage, WorkerMessageError } from '../livekit/worker-messages.ts'
import type { ConnectWorker } from '../livekit/worker-socket.ts'
import type { Assignments } from '../sessions/assignments.ts'
import type { Background } from '../sessions/background.ts'
import type { JobEnd } from '../store/jobs.ts'
import type { Store } from '../store/store.ts'
import { FAILED_AGENT_SIGN_INS } from './token-routes.ts'
import { type AuthenticatedWorker, createWorkerAuth } from './worker-auth.ts'

/** Times in milliseconds. */
export const GATEWAY_LIMITS = {
  /** Connections of one account, open or being opened. */
  workers: 1_000,
  /** How long a worker may take to register, as with LiveKit itself. */
  register: 10_000,
  /** Between two pings; a side that has not answered by the next one counts as gone. */
  ping: 15_000,
  /** Between two looks at whether accounts are still enabled and their secrets valid. */
  recheck: 1_000,
  /** How long jobs that are just being offered may take to be assigned when the service stops. */
  drain: 5_000,
  /** How long the closing handshake may take. */
  close: 2_000,
}

/** Bytes that wait for one side of a connection; beyond it, nothing more is read from the other. */
const MAX_BUFFERED = 256 * 1024

/** RFC 6455 §7.4.1. */
const CLOSE = { goingAway: 1001, unsupportedData: 1003, policyViolation: 1008, serviceRestart: 1012 }

const connectRoute = createRoute({
  method: 'get',
  path: '/agent',
  operationId: 'connectWorker',
  tags: ['Agents'],
  summary: 'Connect a worker of LiveKit’s agent SDKs',
  description:
    'A WebSocket that speaks LiveKit’s agent protocol. The SDKs open it when LIVEKIT_URL is this service, and LIVEKIT_API_KEY and LIVEKIT_API_SECRET are an agent account’s id and secret.',
  security: [{ workerToken: [] }],
  responses: {
    101: { description: 'Connected to LiveKit through this service.' },
    ...problems(
      ...bearerRefusals,
      'invalid_token',
      'agent_disabled',
      'agent_secret_outdated',
      'rate_limited',
      'upgrade_required',
      'livekit_unavailable',
      'store_unavailable',
      'busy',
    ),
  },
})

/**
 * Milliseconds after the loss of a worker. Its jobs may run on, so only LiveKit can say that an agent is gone: those of
 * a killed worker leave after up to 15 s by themselves, those killed with it are noticed after about 21 s.
 */
const REPLACE_AFTER = [0, 5_000, 16_000, 22_000, 30_000]

interface GatewayDeps {
  store: Pick<Store, 'agents' | 'keys' | 'clock'>
  jobs: Pick<Assignments, 'assigned' | 'ended'>
  background: Background
  /** Compares with LiveKit, which recreates lost dispatches and removes the agents of disabled accounts. */
  reconcile: () => Promise<unknown>
  connect: ConnectWorker
  /** What a worker's jobs connect to: LiveKit itself. */
  livekitUrl: string
  limits: Pick<RateLimits, 'agentSignIns' | 'counters'>
  address: ClientAddress
  log: Logger
}

/**
 * Where LiveKit's workers connect when their LIVEKIT_URL is this service. Each is authenticated by its account's own
 * secret, and gets a connection to LiveKit made with a token that allows nothing but registering; media never comes here.
 */
export function createGateway(deps: GatewayDeps, ownLimits = GATEWAY_LIMITS) {
  const { store, background, reconcile, connect, limits, address, log } = deps
  const auth = createWorkerAuth(store)
  const failures = limits.counters(FAILED_AGENT_SIGN_INS)
  const connects = limits.counters({ name: 'worker-connects', count: 2_000, windowSeconds: 60 })
  const links = new Set<Link>()
  const counts = new Map<string, number>()
  let isStopping = false
  let rechecking: NodeJS.Timeout | undefined
  let replacing: NodeJS.Timeout[] = []

  /** The jobs of a worker that is gone, or of one that failed, need not wait for the next comparison with LiveKit. */
  function replaceSoon(): void {
    if (isStopping) return
    for (const timer of replacing) clearTimeout(timer)
    const replace = () => background.run('replace', reconcile)
    replacing = REPLACE_AFTER.map((after) => setTimeout(replace, after).unref())
  }

  /** @throws AppError `rate_limited` */
  function occupy(agentId: string): () => void {
    const add = (more: number) => counts.set(agentId, (counts.get(agentId) ?? 0) + more)
    if ((counts.get(agentId) ?? 0) >= ownLimits.workers) {
      const detail = `${agentId} already has ${ownLimits.workers} workers here.`
      throw new AppError('rate_limited', detail, { retryAfterSeconds: 10 })
    }
    add(1)
    return () => add(-1)
  }

  /** @throws AppError for one that is not let in */
  async function authenticate(c: Context<AppEnv>): Promise<AuthenticatedWorker> {
    const token = bearerToken(c)
    const claimed = await auth.claimed(token)
    if (claimed) c.set('who', { agent: claimed.id })
    try {
      return await auth.authenticate(claimed, token)
    } catch (error) {
      if (error instanceof AppError && error.code === 'agent_secret_outdated') {
        log.warn(`${error.message} npm run agent -- rekey ${claimed?.id}`)
      }
      await countRequest(c, failures, `${claimed?.id} ${address(c)}`)
      await countRequest(c, limits.agentSignIns, address(c))
      throw error
    }
  }

  /** Commands change accounts from other processes, so the store is polled while workers are connected. */
  async function recheck(): Promise<void> {
    const ids = new Set([...links].map(({ worker }) => worker.agent.id))
    for (const id of ids) {
      const now = await store.agents.findAgent(id)
      for (const { worker, close } of links) {
        if (worker.agent.id !== id || auth.isStillGood(worker, now)) continue
        close(CLOSE.policyViolation, 'the agent account was disabled, or its secret replaced')
        replaceSoon()
      }
    }
  }

  function join(worker: AuthenticatedWorker, client: WebSocket, livekit: WebSocket): void {
    const link = createLink({ ...deps, worker, client, livekit, replaceSoon, ownLimits })
    links.add(link)
    rechecking ??= setInterval(() => {
      recheck().catch((err: unknown) => log.warn({ err }, 'agent accounts could not be checked; retrying'))
    }, ownLimits.recheck).unref()
    client.once('close', () => {
      links.delete(link)
      if (links.size > 0) return
      clearInterval(rechecking)
      rechecking = undefined
    })
    if (isStopping) link.close(CLOSE.goingAway, 'the service is stopping')
  }

  const routes = createRouter().openapi(connectRoute, (async (c: Context<AppEnv>) => {
    const worker = await authenticate(c)
    if (c.req.header('Upgrade')?.toLowerCase() !== 'websocket') {
      c.header('Upgrade', 'websocket')
      throw new AppError('upgrade_required', 'Workers of LiveKit’s agent SDKs connect here by WebSocket.')
    }
    if (isStopping) throw new AppError('busy', 'The service is stopping.', { retryAfterSeconds: 5 })
    await countRequest(c, connects, worker.agent.id)
    const leave = occupy(worker.agent.id)
    const livekit = await connect().catch((error: unknown) => {
      leave()
      throw error
    })
    const socket = c.env.incoming?.socket
    // If the worker's socket closes before its handshake, the connection to LiveKit is closed as well.
    const end = () => {
      leave()
      if (livekit.readyState !== livekit.CLOSED) livekit.close()
    }
    if (!socket || socket.destroyed) {
      end()
      throw new AppError('busy', 'The worker has gone.', { retryAfterSeconds: 1 })
    }
    socket.once('close', end)
    return upgradeWebSocket(c, { onOpen: (_, { raw }) => join(worker, raw as WebSocket, livekit) })
  }) as never)

  return {
    routes,
    /** How many are connected. */
    workers: () => links.size,
    /** Lets jobs that are just being assigned reach their worker, then closes all connections: the SDKs reconnect. */
    async close(): Promise<void> {
      isStopping = true
      for (const timer of replacing) clearTimeout(timer)
      await Promise.all(
        [...links].map(async (link) => {
          await link.drain()
          link.close(CLOSE.goingAway, 'the service is stopping')
        }),
      )
    },
  }
}

export type Gateway = ReturnType<typeof createGateway>

interface LinkDeps extends Pick<GatewayDeps, 'jobs' | 'background' | 'livekitUrl' | 'log'> {
  worker: AuthenticatedWorker
  client: WebSocket
  livekit: WebSocket
  replaceSoon: () => void
  ownLimits: typeof GATEWAY_LIMITS
}

type Link = ReturnType<typeof createLink>

/** One worker's connection, and the one to LiveKit that carries on for it. */
function createLink({ worker, client, livekit, jobs, background, replaceSoon, livekitUrl, log, ownLimits }: LinkDeps) {
  const { id: agentId } = worker.agent
  const offered = new Set<string>()
  const running = new Set<string>()
  let workerId: string | undefined
  let onSettled: (() => void) | undefined
  let isOver = false

  function close(code: number, reason: string): void {
    isOver = true
    for (const socket of [client, livekit]) {
      if (socket.readyState === socket.CLOSED) continue
      socket.close(code, socket === client ? reason : '')
      setTimeout(() => socket.terminate(), ownLimits.close).unref()
    }
  }

  function settle(jobId: string): void {
    offered.delete(jobId)
    if (offered.size === 0) onSettled?.()
  }

  const stored = (jobId: string, work: Promise<void>) =>
    work.catch((err: unknown) =>
      log.error({ err, agent: agentId, job: jobId }, 'what is known of a job could not be stored'),
    )
  function ends(jobId: string, end: JobEnd): void {
    running.delete(jobId)
    background.run('job', () => stored(jobId, jobs.ended(agentId, jobId, end)))
    if (end === 'failed') replaceSoon()
  }

  function fromWorker(data: Uint8Array): void {
    const { forward, declined, ended, isStatus } = readWorkerMessage(data, agentId)
    if (declined !== undefined) settle(declined)
    if (ended) ends(ended.jobId, ended.hasFailed ? 'failed' : 'finished')
    // While draining, LiveKit must not learn that the worker has room.
    if (!isStatus || !onSettled) send(client, livekit, forward)
  }

  async function fromLiveKit(data: Uint8Array): Promise<void> {
    const message = readServerMessage(data, livekitUrl)
    const { offered: offer, assigned, terminated } = message
    if (offer !== undefined) offered.add(offer)
    if (terminated !== undefined) ends(terminated, 'left')
    if (assigned && workerId !== undefined) {
      running.add(assigned.id)
      // Stored first: the worker may act on it at once.
      await stored(assigned.id, jobs.assigned({ agentId, workerId }, assigned))
    }
    if (message.workerId !== undefined) {
      workerId = message.workerId
      clearTimeout(registering)
      log.info({ agent: agentId, worker: workerId }, 'worker registered')
    }
    send(livekit, client, message.forward)
    if (assigned) settle(assigned.id)
  }

  /** Reads no further from one side while the other has too much left to read. */
  function send(from: WebSocket, to: WebSocket, data: Uint8Array): void {
    if (to.readyState !== to.OPEN) return
    to.send(data, () => {
      if (from.isPaused && to.bufferedAmount <= MAX_BUFFERED) from.resume()
    })
    if (to.bufferedAmount > MAX_BUFFERED) from.pause()
  }

  /** One message after the other, each once the one before is stored and sent. */
  function receive(from: WebSocket, handle: (data: Uint8Array) => unknown): void {
    let before = Promise.resolve()
    const next = async (data: RawData, isBinary: boolean) => {
      if (isOver) return
      if (!isBinary) return close(CLOSE.unsupportedData, 'send binary messages, as LiveKit’s SDKs do')
      try {
        await handle(data as Buffer)
      } catch (error) {
        if (!(error instanceof WorkerMessageError)) throw error
        log.warn({ agent: agentId, worker: workerId }, `a worker's connection is closed: ${error.message}`)
        close(CLOSE.policyViolation, error.message)
      }
    }
    from.on('message', (data: RawData, isBinary: boolean) => {
      before = before.then(() => next(data, isBinary))
    })
  }

  const registering = setTimeout(close, ownLimits.register, CLOSE.policyViolation, 'the worker did not register')
  const silent = new Set<WebSocket>()
  const pinging = setInterval(() => {
    for (const socket of [client, livekit]) {
      // A paused socket is not read, so its pong has not been seen.
      if (silent.has(socket) && !socket.isPaused) return socket.terminate()
      silent.add(socket)
      socket.ping()
    }
  }, ownLimits.ping)

  for (const socket of [client, livekit]) {
    const heard = () => silent.delete(socket)
    socket
      .on('message', heard)
      .on('pong', heard)
      .on('error', () => {})
    socket.once('close', () => {
      clearTimeout(registering)
      clearInterval(pinging)
      offered.clear()
      onSettled?.()
    })
  }
  client.once('close', (code: number) => {
    log.info({ agent: agentId, worker: workerId, closeCode: code }, 'worker disconnected')
    if (running.size > 0) replaceSoon()
    close(CLOSE.goingAway, '')
  })
  livekit.once('close', () => close(CLOSE.serviceRestart, 'LiveKit closed the connection'))
  receive(client, fromWorker)
  receive(livekit, fromLiveKit)
  // It may have gone while the worker's own handshake was under way.
  if (livekit.readyState !== livekit.OPEN) close(CLOSE.serviceRestart, 'LiveKit closed the connection')

  return {
    worker,
    close,
    /** Has LiveKit offer no further jobs; resolves when those under way are assigned or declined. */
    drain() {
      return new Promise<void>((resolve) => {
        onSettled = resolve
        if (livekit.readyState === livekit.OPEN && workerId !== undefined) livekit.send(fullStatus())
        if (offered.size === 0) resolve()
        else setTimeout(resolve, ownLimits.drain).unref()
      })
    },
  }
}
