import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { PYTHON_PACKAGE } from './binaries.ts'
import { output } from './processes.ts'

/** Builds packages/python into the folder; the wheel's path. */
export async function buildWheel(python: string, folder: string): Promise<string> {
  await output(python, ['-m', 'build', '--wheel', '--no-isolation', '--outdir', folder, PYTHON_PACKAGE])
  const [wheel] = (await readdir(folder)).filter((file) => file.endsWith('.whl'))
  return join(folder, wheel ?? '')
}

export const pip = (python: string, ...args: string[]) =>
  output(python, ['-m', 'pip', '--disable-pip-version-check', ...args])
