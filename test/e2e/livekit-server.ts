import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { liveKitServer, REPOSITORY } from './binaries.ts'
import { freeTcpPort, freeUdpPort, type RunningProcess, run, until } from './processes.ts'

export interface LiveKitServer {
  url: string
  start: () => Promise<void>
  /** At once, as a crash would: on SIGTERM it waits for the participants to leave. */
  kill: () => Promise<void>
  log: () => string
}

export interface LiveKitServerOptions {
  folder: string
  /** Where webhooks go; undefined switches them off altogether. */
  webhookUrl: string | undefined
}

/** A real livekit-server with the repository's livekit.yaml, on ports of its own. */
export async function liveKit({ folder, webhookUrl }: LiveKitServerOptions): Promise<LiveKitServer> {
  const binary = liveKitServer()
  if (!binary) throw new Error('no livekit-server')
  const [port, tcpPort, udpPort] = [await freeTcpPort(), await freeTcpPort(), await freeUdpPort()]
  const file = join(folder, 'livekit.yaml')
  let yaml = await readFile(join(REPOSITORY, 'livekit.yaml'), 'utf8')
  yaml = replaceOnce(yaml, /^port: \d+$/m, `port: ${port}`)
  yaml = replaceOnce(yaml, /^ {2}tcp_port: \d+$/m, `  tcp_port: ${tcpPort}`)
  yaml = replaceOnce(yaml, /^ {2}udp_port: \d+$/m, `  udp_port: ${udpPort}`)
  yaml = replaceOnce(yaml, /^ {2}urls: \[.*\]$/m, `  urls: [${webhookUrl ? `"${webhookUrl}"` : ''}]`)
  await writeFile(file, yaml)

  const logs: string[] = []
  let server: RunningProcess | undefined
  return {
    url: `ws://127.0.0.1:${port}`,
    async start() {
      const started = run(binary, ['--config', file])
      server = started
      await until('livekit-server answers', async () => {
        if (!started.isRunning()) return false
        return (await fetch(`http://127.0.0.1:${port}/`)).ok
      }).catch((error: unknown) => {
        throw new Error(`livekit-server did not start:\n${started.log()}`, { cause: error })
      })
    },
    async kill() {
      await server?.stop('SIGKILL')
      if (server) logs.push(server.log())
      server = undefined
    },
    log: () => [...logs, server?.log() ?? ''].join(''),
  }
}

/** A line of livekit.yaml that no longer looks as expected must not leave a test running with the wrong ports. */
function replaceOnce(text: string, pattern: RegExp, replacement: string): string {
  if (text.match(new RegExp(pattern, 'gm'))?.length !== 1) throw new Error(`livekit.yaml: ${pattern} is not there once`)
  return text.replace(pattern, replacement)
}
