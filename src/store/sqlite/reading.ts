import { asStoreError } from './group-commit.ts'

/** Runs a read; what SQLite refuses becomes AppError `store_unavailable`, as a rejected promise. */
export async function reading<T>(read: () => T): Promise<T> {
  try {
    return read()
  } catch (error) {
    throw asStoreError(error)
  }
}

/** Reads that cost more than `costPerTurn` together wait for the next turn of the event loop, so that other work gets in between. */
export function readingInTurns(costPerTurn: number) {
  let spent = 0
  let nextTurn: Promise<void> | undefined
  return async function inTurn<T>(read: () => { value: T; cost: number }): Promise<T> {
    while (spent >= costPerTurn) await nextTurn
    return reading(() => {
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
