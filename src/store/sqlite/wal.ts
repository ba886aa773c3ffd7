import { closeSync, fdatasync, fdatasyncSync, openSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import type Database from 'better-sqlite3'

/** The write-ahead log of an open database, made durable and copied without blocking the event loop. */
export interface Wal {
  /** Makes everything committed so far durable. */
  sync(): Promise<void>
  /** Keeps the WAL short. No write may begin before it resolves. */
  trim(): Promise<void>
  close(): Promise<void>
}

/** Pages, 16 MiB. A page that changes often is copied once per copy, so rarer copies write less. */
const MAX_PAGES = 4096

const fdatasyncOf = promisify(fdatasync)

/**
 * From here on this process, not SQLite, syncs the commits of this connection and decides when the WAL is copied. SQLite
 * still syncs both files around each copy, and the header of a WAL that starts again. Null for a database in memory.
 */
export function takeOverWal(raw: Database.Database, maxPages = MAX_PAGES): Wal | null {
  if (raw.memory) return null
  raw.pragma('synchronous = NORMAL')
  raw.pragma('wal_autocheckpoint = 0')
  // SQLite puts it beside the file itself, wherever a link to it is.
  const path = realpathSync(raw.name)
  const file = openSync(`${path}-wal`, 'r+')
  // What a killed process committed is visible, but may not be on disk yet.
  fdatasyncSync(file)
  const size = raw.prepare<[], { log: number }>('PRAGMA wal_checkpoint(NOOP)')
  const copier = createCopier(path)
  let copied = 0
  let firstPhase: Promise<void> | undefined
  let isFirstPhaseDone = false
  let isClosed = false

  const pages = () => size.get()?.log ?? 0

  /** Without the thread it blocks the event loop, but the WAL must not grow without bound. */
  async function copy(): Promise<void> {
    await copier.run().catch(() => void raw.pragma('wal_checkpoint(PASSIVE)'))
  }

  return {
    sync: () => fdatasyncOf(file),
    async trim() {
      const total = pages()
      // The WAL has started again from its beginning.
      if (total < copied) copied = 0
      if (total - copied < maxPages) return
      firstPhase ??= copy()
        .catch(() => {})
        .finally(() => {
          isFirstPhaseDone = true
        })
      if (!isFirstPhaseDone) return
      firstPhase = undefined
      isFirstPhaseDone = false
      // After a copy that failed, the next one has to wait for as many pages again.
      copied = total
      // Only what was written during the first phase is left. No one writes now, so the WAL can start again after this.
      await copy()
    },
    async close() {
      if (isClosed) return
      isClosed = true
      await firstPhase
      await copier.close()
      closeSync(file)
    },
  }
}

/** A string, because not every way to run this loads TypeScript in a thread. */
const COPIER = `
  const { parentPort, workerData } = require('node:worker_threads')
  const raw = new (require(workerData.driver))(workerData.path, { fileMustExist: true })
  raw.pragma('synchronous = FULL')
  parentPort.on('message', (message) => {
    if (message === 'close') {
      raw.close()
      return parentPort.close()
    }
    try {
      raw.pragma('wal_checkpoint(PASSIVE)')
      parentPort.postMessage('copied')
    } catch {
      parentPort.postMessage('failed')
    }
  })`

/** Copies the WAL into the database in a thread of its own, which starts when it is first needed. */
function createCopier(path: string) {
  const driver = createRequire(import.meta.url).resolve('better-sqlite3')
  let thread: Worker | undefined
  /** Called with what the thread answers; 'exit' also when it could not start, or ran out of memory. */
  let answered = (_: string) => {}

  function start(): Worker {
    const started = new Worker(COPIER, { eval: true, execArgv: [], workerData: { driver, path } })
    started.on('message', (answer: string) => answered(answer))
    started.on('error', () => {})
    started.on('exit', () => {
      thread = undefined
      answered('exit')
    })
    return started
  }

  /** One at a time. Only while someone waits for its answer does the thread keep the process alive. */
  async function ask(message: 'copy' | 'close'): Promise<string> {
    thread ??= start()
    thread.ref()
    const answer = await new Promise<string>((resolve) => {
      answered = resolve
      thread?.postMessage(message)
    })
    thread?.unref()
    return answer
  }

  return {
    async run(): Promise<void> {
      const answer = await ask('copy')
      if (answer !== 'copied') throw new Error(`The WAL was not copied: ${answer}`)
    },
    async close(): Promise<void> {
      if (thread) await ask('close')
    },
  }
}
