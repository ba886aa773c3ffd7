import { closeSync, fdatasync, openSync } from 'node:fs'
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

/** Pages, 16 MiB: the rarer the copies, the fewer of the pages that change often. */
const MAX_PAGES = 4096

const fdatasyncOf = promisify(fdatasync)

/**
 * Takes over from SQLite to sync the commits of this connection, and to decide when the WAL is copied into the database.
 * SQLite still syncs both files around each copy, and the header of a WAL that starts again. Null if in memory.
 */
export function takeOverWal(raw: Database.Database, maxPages = MAX_PAGES): Wal | null {
  if (raw.memory) return null
  raw.pragma('synchronous = NORMAL')
  raw.pragma('wal_autocheckpoint = 0')
  const file = openSync(`${raw.name}-wal`, 'r+')
  const size = raw.prepare<[], { log: number }>('PRAGMA wal_checkpoint(NOOP)')
  const checkpointer = createCheckpointer(raw.name)
  let copied = 0
  let copying: Promise<void> | undefined
  let isCopied = false

  const pages = () => size.get()?.log ?? 0

  return {
    sync: () => fdatasyncOf(file),
    async trim() {
      const total = pages()
      // It has started again.
      if (total < copied) copied = 0
      if (total - copied < maxPages) return
      copying ??= checkpointer.run().then(() => {
        isCopied = true
      })
      if (!isCopied) return
      // Little has been written since. Without a writer the rest is copied as well, and the WAL can start again.
      await checkpointer.run()
      copied = pages()
      copying = undefined
      isCopied = false
    },
    async close() {
      await copying
      await checkpointer.close()
      closeSync(file)
    },
  }
}

/** Text, because TypeScript cannot be loaded into a thread everywhere. A copy that fails is tried again at the next one. */
const CHECKPOINTER = `
  const { parentPort, workerData } = require('node:worker_threads')
  const raw = new (require(workerData.driver))(workerData.path, { fileMustExist: true })
  raw.pragma('synchronous = FULL')
  parentPort.on('message', (isLast) => {
    try {
      if (!isLast) raw.pragma('wal_checkpoint(PASSIVE)')
    } catch {}
    if (!isLast) return parentPort.postMessage('done')
    raw.close()
    parentPort.close()
  })`

/** Copies the WAL into the database in a thread of its own, which starts when it is first needed. */
function createCheckpointer(path: string) {
  const driver = createRequire(import.meta.url).resolve('better-sqlite3')
  let worker: Worker | undefined
  let done = () => {}

  function start(): Worker {
    const started = new Worker(CHECKPOINTER, { eval: true, workerData: { driver, path } })
    started.unref()
    started.on('message', () => done())
    // What ends the thread, such as too little memory, fails one copy: the next one starts another thread.
    started.on('error', () => {})
    started.on('exit', () => {
      worker = undefined
      done()
    })
    return started
  }

  /** One at a time. */
  function send(isLast: boolean): Promise<void> {
    worker ??= start()
    worker.postMessage(isLast)
    return new Promise((resolve) => {
      done = resolve
    })
  }

  return {
    run: () => send(false),
    close: async () => worker && send(true),
  }
}
