import { existsSync, readFileSync } from 'node:fs'
import { cp, mkdir, readFile, readlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Copy, DockerfileParser, type Env, type Instruction, type JSONInstruction } from 'dockerfile-ast'
import { REPOSITORY } from './binaries.ts'
import { output, type RunningProcess, run, until } from './processes.ts'

const dockerfile = DockerfileParser.parse(readFileSync(join(REPOSITORY, 'Dockerfile'), 'utf8'))

/** What a container would be started with. */
export interface Image {
  /** The folder that is its root file system, without what comes from the base image. */
  root: string
  folder: string
  env: Record<string, string>
  user: string
  command: string[]
  healthCheck: string[]
}

/**
 * The programs of this machine stand for the base image's. `$1` is the root, `$2` how it is mounted in the end, and the
 * rest the command.
 */
const ENTER = `
root=$1 mode=$2; shift 2
mount --bind "$root" "$root"
for folder in usr bin lib lib64 etc dev; do
  mkdir -p "$root/$folder"
  mount --rbind "/$folder" "$root/$folder"
done
mkdir -p "$root/tmp" "$root/proc" "$root/root"
mount -t tmpfs tmpfs "$root/tmp"
if [ "$mode" = rw ]; then
  mount --rbind /proc "$root/proc"
  # npm's settings and cache.
  mount --bind /root "$root/root"
else
  mount -t proc proc "$root/proc"
  mount --bind "$root/data" "$root/data"
  ip link set lo up
fi
mount -o "remount,bind,$mode" "$root"
exec chroot "$root" "$@"`

/** Read elsewhere, or without meaning for what runs. */
const UNUSED = ['HEALTHCHECK', 'LABEL', 'VOLUME', 'EXPOSE']

const jsonStrings = (instruction: Instruction) =>
  (instruction as JSONInstruction).getJSONStrings().map((text) => text.getJSONValue())

/** Runs the Dockerfile's steps in a folder: the same copies and commands, but no base image and no install scripts. */
export async function build(folder: string): Promise<Image> {
  const context = await contextIn(join(folder, 'context'))
  const stages = new Map<string, string>()
  const image: Image = { root: '', folder: '/', env: {}, user: '', command: [], healthCheck: [] }
  for (const instruction of dockerfile.getInstructions()) {
    const words = instruction.getArguments().map((argument) => argument.getValue())
    switch (instruction.getKeyword()) {
      case 'FROM':
        image.root = join(folder, words[2] ?? 'image')
        stages.set(words[2] ?? 'image', image.root)
        Object.assign(image, { folder: '/', env: {}, user: '' })
        await mkdir(image.root)
        break
      case 'WORKDIR':
        image.folder = resolve(image.folder, words[0] ?? '')
        await mkdir(join(image.root, image.folder), { recursive: true })
        break
      case 'COPY': {
        const copy = instruction as Copy
        if (copy.getFlags().some((flag) => flag.getName() !== 'from')) throw new Error(`${copy}: not understood`)
        const from = copy.getFromFlag()?.getValue()
        const source = from ? (stages.get(from) ?? '') : context
        const to = words.at(-1) ?? ''
        for (const path of words.slice(0, -1)) {
          const isInto = to.endsWith('/') && path !== '.'
          const target = join(image.root, resolve(image.folder, to), isInto ? (path.split('/').at(-1) ?? '') : '')
          await cp(join(source, path), target, { recursive: true, verbatimSymlinks: true })
        }
        break
      }
      case 'RUN':
        await runStep(image, instruction.getArgumentsContent() ?? '')
        break
      case 'ENV':
        for (const property of (instruction as Env).getProperties()) {
          image.env[property.getName()] = property.getValue() ?? ''
        }
        break
      case 'USER':
        image.user = words[0] ?? ''
        break
      case 'CMD':
        image.command = jsonStrings(instruction)
        break
      default:
        if (!UNUSED.includes(instruction.getKeyword())) throw new Error(`${instruction.getKeyword()} is not understood`)
    }
  }
  const [check] = dockerfile.getHEALTHCHECKs()
  const [, array = ''] = /CMD\s+(\[.*\])\s*$/s.exec(check?.getArgumentsContent() ?? '') ?? []
  image.healthCheck = JSON.parse(array) as string[]
  return image
}

/** Whatever .dockerignore lets through: it excludes everything, and names what is needed. */
async function contextIn(folder: string): Promise<string> {
  const rules = (await readFile(join(REPOSITORY, '.dockerignore'), 'utf8')).split('\n').filter(Boolean)
  const included = rules.filter((rule) => rule.startsWith('!')).map((rule) => rule.slice(1))
  const anywhere = rules.filter((rule) => rule.startsWith('**/')).map((rule) => rule.slice(3))
  const understood = new Set(['*', ...included.map((rule) => `!${rule}`), ...anywhere.map((rule) => `**/${rule}`)])
  if (rules[0] !== '*' || rules.some((rule) => !understood.has(rule))) throw new Error('another kind of .dockerignore')
  for (const path of included) {
    const filter = (source: string) => !source.split('/').some((name) => anywhere.includes(name))
    await cp(join(REPOSITORY, path), join(folder, path), {
      recursive: true,
      filter: (source) => filter(source.slice(REPOSITORY.length)),
    })
  }
  return folder
}

/** Compiling takes minutes, so install scripts are left out, and the result comes from this repository. */
async function runStep({ root, folder, env }: Image, command: string): Promise<void> {
  const variables = { ...inherited(), ...env, npm_config_ignore_scripts: 'true', npm_config_prefer_offline: 'true' }
  const step = ['env', '-C', folder, 'sh', '-euc', command]
  await output('unshare', ['--mount', 'sh', '-euc', ENTER, 'sh', root, 'rw', ...step], { env: variables })
  const compiled = 'node_modules/better-sqlite3/build'
  const target = join(root, folder, compiled)
  if (existsSync(join(target, '..')) && !existsSync(target)) {
    await cp(join(REPOSITORY, compiled), target, { recursive: true })
  }
}

/** npm's settings may be in the environment. */
const inherited = () =>
  Object.fromEntries(
    Object.entries(process.env).filter(([name]) => /^(npm_config_|https?_proxy$)/i.test(name)),
  ) as Record<string, string>

export interface Container {
  process: RunningProcess
  /** As `docker exec` does: its stdout, or an error if it does not end with 0. */
  exec: (...command: string[]) => Promise<string>
  /** Sends SIGTERM to the container's process 1; the exit code. */
  stop: () => Promise<number | null>
}

/** Starts the image's command as process 1, on a root file system that is read-only but for /data and /tmp. */
export async function start(image: Image, env: Record<string, string>): Promise<Container> {
  const [uid = '', gid = ''] = image.user.split(':')
  const user = [
    'setpriv',
    `--reuid=${uid}`,
    `--regid=${gid}`,
    '--clear-groups',
    '--no-new-privs',
    '--bounding-set=-all',
  ]
  const variables = Object.entries({ PATH: '/usr/local/bin:/usr/bin:/bin', ...image.env, ...env })
  const environment = ['env', '-i', '-C', image.folder, ...variables.map((pair) => pair.join('='))]
  const namespaces = ['--fork', '--kill-child', '--pid', '--mount', '--net']
  const started = run(
    'unshare',
    [...namespaces, 'sh', '-euc', ENTER, 'sh', image.root, 'ro', ...user, ...environment, ...image.command],
    { patience: 20_000 },
  )
  const pid = await until('the process has its root, or has ended', async () => {
    if (!started.isRunning()) return 'none'
    const child = (await readFile(`/proc/${started.pid}/task/${started.pid}/children`, 'utf8')).trim()
    return child !== '' && (await readlink(`/proc/${child}/root`)) === image.root && child
  })
  return {
    process: started,
    exec: (...command) =>
      output('nsenter', ['--target', pid, '--mount', '--pid', '--net', '--root', ...user, ...environment, ...command]),
    async stop() {
      process.kill(Number(pid), 'SIGTERM')
      await until('it has ended', () => !started.isRunning(), 20)
      return started.exitCode()
    },
  }
}
