import { afterEach, expect } from 'vitest'
import { z } from 'zod'

/** Enough for any test that is about the log; the long ones are not. */
const MAX_LINES = 5000
const MAX_SECRETS = 500
/** Shorter ones are in innocent words too. */
const MIN_LENGTH = 8

/** What holds a secret, or somebody's e-mail, in what is sent and answered. */
const SECRET_FIELDS = [
  'email',
  'password',
  'refresh_token',
  'access_token',
  'participant_token',
  'token',
  'client_secret',
  'client_assertion',
]

const lines: string[] = []
const secrets = new Set<string>()
afterEach(() => {
  const log = lines.splice(0).join('')
  const found = [...secrets].filter((secret) => log.includes(secret))
  secrets.clear()
  expect(found, 'secrets in the log').toEqual([])
})

interface App {
  fetch: (request: Request, ...rest: never[]) => Response | Promise<Response>
}

const Line = z.looseObject({ time: z.iso.datetime(), level: z.number() })

/** Where an app's log goes in tests: it may hold no secret that went over HTTP in the same test. */
export function logbook() {
  const own: string[] = []
  return {
    destination: {
      write(line: string) {
        if (own.length >= MAX_LINES) return
        own.push(line)
        lines.push(line)
      },
    },
    /** What was logged so far. */
    logged: () => own.map((line) => Line.parse(JSON.parse(line))),
  }
}

/** Remembers the secrets that an app is sent, and those that it answers. The app itself is changed. */
export function noteSecrets(app: App): void {
  const inner = app.fetch
  app.fetch = async (request, ...rest: never[]) => {
    const authorization = request.headers.get('Authorization')
    if (authorization) noteAuthorization(authorization)
    // Not waited for: a client may be refused before it has sent everything.
    textOf(request).then(noteBody, () => {})
    const response = await inner(request, ...rest)
    if (response.headers.get('Content-Type')?.endsWith('json')) noteBody(await response.clone().text())
    return response
  }
}

/** Rejects when the input is not a valid request; the app answers that. */
const textOf = async (request: Request) => request.clone().text()

function noteAuthorization(value: string): void {
  const [scheme = '', credentials = ''] = value.split(' ')
  note(credentials || scheme)
  if (scheme.toLowerCase() === 'basic') note(Buffer.from(credentials, 'base64').toString('latin1').split(':')[1] ?? '')
}

function noteBody(text: string): void {
  for (const [name, value] of new URLSearchParams(text)) if (SECRET_FIELDS.includes(name)) note(value)
  try {
    JSON.parse(text, (key, value: unknown) => {
      if (SECRET_FIELDS.includes(key) && typeof value === 'string') note(value)
      return value
    })
  } catch {
    // Not JSON, so a form or nothing.
  }
}

function note(secret: string): void {
  if (secret.length >= MIN_LENGTH && secrets.size < MAX_SECRETS) secrets.add(secret)
}
