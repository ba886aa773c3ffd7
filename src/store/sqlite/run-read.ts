import { asStoreError } from './group-commit.ts'

/** Runs a read; SQLite's refusals reject as AppError `store_unavailable`. */
export async function runRead<T>(read: () => T): Promise<T> {
  try {
    return read()
  } catch (error) {
    throw asStoreError(error)
  }
}

/** Spreads reads over turns of the event loop, about `costPerTurn` in each, so that other work can run in between. */
export function createPacedReads(costPerTurn: number) {
  let spent = 0
  let nextTurn: Promise<void> | undefined
  return async function inTurn<T>(read: () => { value: T; cost: number }): Promise<T> {
    while (spent >= costPerTurn) await nextTurn
    return runRead(() => {
      const { value, cost } = read()
      spent += cost
      nextTurn ??= new Promise((resolve) => {
        setImmediate(() => {
          spent = 0
          nextTurn = undefined
          resolve()
        })
      })
      return value
    })
  }
}
