/** The page's element of that id; the page and its script are built together, so it is there. */
function element<E extends HTMLElement>(id: string, kind: new () => E): E {
  const found = document.getElementById(id)
  if (!(found instanceof kind)) throw new Error(`The page has no ${kind.name} #${id}.`)
  return found
}

export const page = {
  notice: element('notice', HTMLParagraphElement),
  account: element('account', HTMLDivElement),
  who: element('who', HTMLSpanElement),
  signOut: element('sign-out', HTMLButtonElement),

  signIn: element('sign-in', HTMLElement),
  signInTitle: element('sign-in-title', HTMLHeadingElement),
  guest: element('guest', HTMLButtonElement),
  accountForm: element('account-form', HTMLFormElement),
  email: element('email', HTMLInputElement),
  password: element('password', HTMLInputElement),

  call: element('call', HTMLDivElement),
  callTitle: element('call-title', HTMLHeadingElement),
  summary: element('summary', HTMLParagraphElement),
  start: element('start', HTMLButtonElement),
  mute: element('mute', HTMLButtonElement),
  end: element('end', HTMLButtonElement),
  sound: element('sound', HTMLButtonElement),
  level: element('level', HTMLMeterElement),
  levelText: element('level-text', HTMLSpanElement),
  agentLevel: element('agent-level', HTMLMeterElement),
  agentLevelText: element('agent-level-text', HTMLSpanElement),
  deviceRow: element('device-row', HTMLDivElement),
  device: element('device', HTMLSelectElement),
  connection: element('connection', HTMLElement),
  status: element('status', HTMLElement),
  agent: element('agent', HTMLElement),

  empty: element('empty', HTMLParagraphElement),
  log: element('log', HTMLDivElement),
  events: element('events', HTMLOListElement),
  attempts: element('attempts', HTMLDivElement),
  tryNow: element('try-now', HTMLButtonElement),
  tryOther: element('try-other', HTMLButtonElement),

  pair: element('pair', HTMLElement),
  userId: element('user-id', HTMLElement),
  sessionId: element('session-id', HTMLElement),
  claimsRow: element('claims-row', HTMLDetailsElement),
  claims: element('claims', HTMLPreElement),
}

/** Written only when it differs: a live region would be read out again. */
export function setText(target: HTMLElement, text: string): void {
  if (target.textContent !== text) target.textContent = text
}

/** A problem to show until something else happens; undefined takes it away. */
export function notify(text?: string): void {
  page.notice.hidden = text === undefined
  setText(page.notice, text ?? '')
}
