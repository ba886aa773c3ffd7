import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { ConfigError, isProduction, SETTINGS } from '../config.ts'

/** The second is what `lk app env` writes. Earlier ones win, and the environment wins over all. */
const FILES = ['.env.local', '.env']

/**
 * Reads the working directory's env files into the environment; not in production, where settings come from one place
 * only. A file that does not exist is skipped.
 * @throws ConfigError for a file that cannot be read, or a value that an unquoted # would cut
 */
export function loadDotEnv(env: Record<string, string | undefined>): void {
  if (isProduction(env)) return
  const settings = FILES.map(read)
  for (const [name, value] of settings.flatMap((file) => Object.entries(file))) env[name] ??= value
}

/** A value without quotes in which # follows a character other than a space. */
const CUT_VALUE = /^\s*(?:export\s+)?(\w+)\s*=(?![^\S\n]*["'`])[^#\n]*(?<=\S)#/

function read(file: string): NodeJS.Dict<string> {
  let bytes: Buffer
  try {
    bytes = readFileSync(file)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return {}
    throw new ConfigError([`${file}: cannot be read (${code})`])
  }
  // Editors on Windows write UTF-16 or a byte order mark, which would become part of the first name.
  const isUtf16 = bytes[0] === 0xff && bytes[1] === 0xfe
  const text = new TextDecoder(isUtf16 ? 'utf-16le' : 'utf-8').decode(bytes)
  const cut = text.split('\n').flatMap((line, i) => {
    const [, name = ''] = CUT_VALUE.exec(line) ?? []
    return SETTINGS.includes(name)
      ? [`${name}: put quotes around the value in ${file} line ${i + 1}: # begins a comment`]
      : []
  })
  if (cut.length > 0) throw new ConfigError(cut)
  return parseEnv(text)
}
