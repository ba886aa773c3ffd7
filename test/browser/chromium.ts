import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome']

/** The browser to test with: `CHROMIUM`, else the first on PATH. */
export function chromiumBinary(): string | undefined {
  const named = process.env.CHROMIUM
  // A name that is set but wrong must not turn into a silent skip.
  if (named) {
    accessSync(named, constants.X_OK)
    return named
  }
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean)
  return NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find(isExecutable)
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
