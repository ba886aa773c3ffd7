import { userClient } from '#client'
import { createCall } from './call.ts'
import { notify, page } from './elements.ts'
import { kept } from './tab.ts'
import { wordsFor } from './words.ts'

const MIN_PASSWORD_LENGTH = 8

const storage = kept('refresh')
const url = new URL('.', location.href).href.replace(/\/$/, '')
const client = userClient({ url, storage })
const agentName = new URLSearchParams(location.search).get('agent') ?? undefined
const call = createCall({ client, url, agentName, onSignedOut: showSignIn })

function showSignIn(): void {
  page.account.hidden = true
  page.call.hidden = true
  page.signIn.hidden = false
  page.password.value = ''
  page.signInTitle.focus()
  call.forget()
}

async function showCallFor(): Promise<void> {
  const { name, email } = await client.me()
  page.who.textContent = name ?? email ?? 'Guest'
  page.account.hidden = false
  page.signIn.hidden = true
  page.call.hidden = false
}

/** One attempt to sign in; the buttons rest meanwhile. */
async function signIn(how: () => Promise<unknown>): Promise<void> {
  notify()
  const buttons = page.signIn.querySelectorAll('button')
  for (const button of buttons) button.disabled = true
  try {
    await how()
    await showCallFor()
    page.callTitle.focus()
  } catch (error) {
    notify(wordsFor(error))
  } finally {
    for (const button of buttons) button.disabled = false
  }
}

page.guest.addEventListener('click', () => void signIn(() => client.guest()))

page.accountForm.noValidate = true
page.accountForm.addEventListener('submit', (event) => {
  event.preventDefault()
  const isNew = event.submitter instanceof HTMLButtonElement && event.submitter.value === 'register'
  const { value: password } = page.password
  page.password.setCustomValidity(
    isNew && password.length < MIN_PASSWORD_LENGTH ? `At least ${MIN_PASSWORD_LENGTH} characters, please.` : '',
  )
  if (!page.accountForm.reportValidity()) return
  const credentials = { email: page.email.value, password }
  void signIn(() => (isNew ? client.register(credentials) : client.login(credentials)))
})

page.signOut.addEventListener('click', async () => {
  await call.endIfOpen()
  // Forgotten here in any case; the service may be away.
  await client.logout().catch(() => undefined)
  notify()
  showSignIn()
})

async function open(): Promise<void> {
  if (storage.get() === null) return showSignIn()
  try {
    await showCallFor()
    await call.restore()
  } catch (error) {
    if (storage.get() === null) showSignIn()
    notify(wordsFor(error))
  }
}

void open()
