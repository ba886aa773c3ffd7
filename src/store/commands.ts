import { openForCommand } from './sqlite/command-store.ts'
import { openReadOnly as openFile } from './sqlite/read-only.ts'
import { isPostgres, loadPostgres, type ReadOnlyStore, type Store } from './store.ts'

export interface CommandOptions {
  /** Creates the store if there is none yet. */
  mayCreate: boolean
}

/** Opens the store for a command, as long as `use` takes. @throws OperatorError when there is none to open now */
export async function withStore<T>(
  url: string,
  use: (store: Store) => Promise<T>,
  { mayCreate = false }: Partial<CommandOptions> = {},
): Promise<T> {
  const store = isPostgres(url)
    ? await (await loadPostgres()).openForCommand(url, { mayCreate })
    : await openForCommand(url, { mayCreate })
  try {
    return await use(store)
  } finally {
    await store.close()
  }
}

/** An existing store, to be read only. Creates and migrates nothing. @throws Error unless this version can read it */
export async function openReadOnly(url: string): Promise<ReadOnlyStore> {
  return isPostgres(url) ? (await loadPostgres()).openForCommand(url, { mayCreate: false }) : openFile(url)
}
