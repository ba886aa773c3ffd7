// A fake LiveKit in a process of its own, so that its work is not measured as the service's: `startFakeLiveKit` forks
// this file. It answers as test/sfu.ts does and holds as many rooms as it is told to.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { startSfu } from '../test/sfu.ts'
import type { Leg, SfuParticipant } from '../test/sfu-rooms.ts'
import { sendWebhooks } from '../test/sfu-webhooks.ts'

/** A participant to put into a room, as it joined. */
export type Entrant = { room: string } & Pick<SfuParticipant, 'identity' | 'sid' | 'attributes'>

type Command =
  | { kind: 'enter'; entrants: Entrant[] }
  | { kind: 'join'; token: string }
  | { kind: 'leave'; leg: Leg }
  | { kind: 'webhooks'; url: string }
  | { kind: 'compared' }

async function serve(): Promise<void> {
  const sfu = await startSfu()
  let compared = 0
  // Tests ask what was asked; here it would only grow.
  const count = () => {
    compared += sfu.questions.splice(0).filter(({ method }) => method === 'ListParticipants').length
  }
  setInterval(count, 1_000)
  const obey = (command: Command): unknown => {
    if (command.kind === 'enter') for (const { room, ...entrant } of command.entrants) sfu.enter(room, entrant)
    if (command.kind === 'join') return sfu.join(command.token)
    if (command.kind === 'leave') sfu.leave(command.leg)
    if (command.kind === 'webhooks') sendWebhooks(sfu, command.url)
    if (command.kind !== 'compared') return undefined
    count()
    return compared
  }
  process.on('message', ({ id, command }: { id: number; command: Command }) => {
    process.send?.({ id, result: obey(command) })
  })
  process.once('disconnect', () => process.exit())
  process.send?.({ url: sfu.url })
}

export async function startFakeLiveKit() {
  const child = fork(fileURLToPath(import.meta.url), ['serve'], { execArgv: ['--import', 'tsx'] })
  const [{ url }] = (await once(child, 'message')) as [{ url: string }]
  const waiting = new Map<number, (result: never) => void>()
  let last = 0
  child.on('message', ({ id, result }: { id: number; result: never }) => {
    waiting.get(id)?.(result)
    waiting.delete(id)
  })
  const tell = <T>(command: Command) =>
    new Promise<T>((resolve) => {
      waiting.set(++last, resolve)
      child.send({ id: last, command })
    })
  return {
    url,
    enter: (entrants: Entrant[]) => tell<void>({ kind: 'enter', entrants }),
    join: (token: string) => tell<Leg>({ kind: 'join', token }),
    leave: (leg: Leg) => tell<void>({ kind: 'leave', leg }),
    sendWebhooks: (to: string) => tell<void>({ kind: 'webhooks', url: to }),
    /** How often it was asked who is in a room. */
    compared: () => tell<number>({ kind: 'compared' }),
    stop: () => void child.kill('SIGKILL'),
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await serve()
