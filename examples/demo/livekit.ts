import { accessSync, constants } from 'node:fs'
import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { RoomServiceClient } from 'livekit-server-sdk'

export const HOW_TO_GET_LIVEKIT = `There is no livekit-server on the PATH, so nobody can call yet. Get one:
  macOS    brew install livekit
  Linux    curl -sSL https://get.livekit.io | bash
  Docker   docker run --rm --network host -v "$PWD/livekit.yaml:/livekit.yaml" livekit/livekit-server --config /livekit.yaml
  Go 1.26  go install github.com/livekit/livekit-server/cmd/server@v1.13.5   (the binary is named "server")
Then start it in a second terminal, in this folder, and the agent joins by itself:
  livekit-server --config livekit.yaml
or stop this one and name the binary:  LIVEKIT_SERVER=/path/to/it npm run demo
or use a LiveKit Cloud project:        LIVEKIT_URL=wss://… LIVEKIT_API_KEY=… LIVEKIT_API_SECRET=… npm run demo`

/** `LIVEKIT_SERVER`, else the one on PATH. */
export function findLiveKit(named: string | undefined, path = ''): string | undefined {
  if (named) {
    if (!isExecutable(named)) throw new Error(`LIVEKIT_SERVER=${named} is not a program that can be started.`)
    return named
  }
  return path
    .split(delimiter)
    .filter(Boolean)
    .map((folder) => join(folder, 'livekit-server'))
    .find(isExecutable)
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Whether a LiveKit server answers there and accepts this key; `other`: something else listens on that port. */
export async function askLiveKit(url: string, key: string, secret: string): Promise<'ours' | 'other' | 'nothing'> {
  const host = url.replace(/^ws/, 'http')
  try {
    await fetch(host, { signal: AbortSignal.timeout(2_000) })
  } catch {
    return 'nothing'
  }
  try {
    await new RoomServiceClient(host, key, secret, { requestTimeout: 2 }).listRooms()
    return 'ours'
  } catch {
    return 'other'
  }
}

/** The repository's livekit.yaml, with its webhooks sent to the port that the service really has. */
export async function liveKitConfig(repository: string, servicePort: number): Promise<string> {
  const file = join(repository, 'livekit.yaml')
  if (servicePort === 8008) return file
  const copy = join(await mkdtemp(join(tmpdir(), 'behalf-demo-')), 'livekit.yaml')
  await writeFile(copy, (await readFile(file, 'utf8')).replaceAll(':8008/', `:${servicePort}/`))
  return copy
}
