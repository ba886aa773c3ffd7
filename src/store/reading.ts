import { asStoreError } from './group-commit.ts'

/** Runs a read; what SQLite refuses becomes AppError `store_unavailable`, as a rejected promise. */
export async function reading<T>(read: () => T): Promise<T> {
  try {
    return read()
  } catch (error) {
    throw asStoreError(error)
  }
}
