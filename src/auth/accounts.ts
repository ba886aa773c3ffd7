import type { Clock } from '../clock.ts'
import { AppError } from '../errors.ts'
import { newId, newSecret } from '../ids.ts'
import type { KeyStore } from '../store/keys.ts'
import { type User, type UserStore, userGone } from '../store/users.ts'
import { createPasswords, type Passwords } from './passwords.ts'
import {
  childRefreshToken,
  firstRefreshToken,
  REFRESH_ABSOLUTE_MS,
  REFRESH_GRACE_MS,
  REFRESH_IDLE_MS,
  refreshTokenHash,
} from './refresh.ts'
import type { AccessTokens, UserToken } from './tokens.ts'

export interface SignedIn {
  user: User
  accessToken: string
  refreshToken: string
}

export interface Registration {
  /** Lower case. */
  email: string
  password: string
  name?: string | undefined
}

/** Registration, sign-in, refresh and logout. What ends a sign-in also ends its access tokens and its sessions. */
export interface Accounts {
  /**
   * With a guest's token, upgrades that guest, keeping its id and that sign-in's sessions, and ends its earlier
   * sign-ins: otherwise anyone holding one would share the account.
   * @throws AppError `email_taken`, `already_registered`, `invalid_token`, `busy`
   */
  register(registration: Registration, guest?: UserToken): Promise<SignedIn>
  /** @throws AppError `invalid_credentials`, the same for an unknown e-mail and a wrong password; `busy` */
  login(email: string, password: string): Promise<SignedIn>
  guest(name?: string): Promise<SignedIn>
  /** @throws AppError `invalid_refresh_token`; reuse outside the grace period also revokes the whole family */
  refresh(refreshToken: string): Promise<SignedIn>
  /** Ends the sign-in that the token belongs to; an unknown token is fine (RFC 7009 §2.2). */
  logout(refreshToken: string): Promise<void>
  /** Ends all sign-ins of the user. */
  logoutAll(token: UserToken): Promise<void>
  /**
   * Ends all sign-ins of the user and begins a new one, which keeps the sessions of the token's sign-in.
   * @throws AppError `invalid_credentials`, `busy`
   */
  changePassword(user: User, token: UserToken, current: string, next: string): Promise<SignedIn>
  /** @throws AppError `invalid_token` when the user no longer exists */
  me(token: UserToken): Promise<User>
}

interface AccountsDeps {
  users: UserStore
  keys: KeyStore
  tokens: AccessTokens
  clock: Clock
  /** Ends the user's sessions, except those of the sign-ins that are `kept` and those that the sign-in `to` takes over. */
  endSessions: (userId: string, kept: string[], next?: { from: string; to: string }) => Promise<void>
  passwords?: Passwords
}

export function createAccounts(deps: AccountsDeps): Accounts {
  const { users, keys, tokens, clock, endSessions, passwords = createPasswords() } = deps
  let refreshKey: Buffer | undefined

  async function loadRefreshKey(): Promise<Buffer> {
    refreshKey ??= Buffer.from(await keys.secret('refresh', newSecret, clock.now()), 'base64url')
    return refreshKey
  }

  /** @throws AppError `invalid_credentials` when the user's password has changed since `user` was read */
  async function signIn(user: User): Promise<SignedIn & UserToken> {
    const at = clock.latest()
    const refreshToken = firstRefreshToken()
    const family = {
      id: newId('fam', at),
      userId: user.id,
      expiresAt: at + REFRESH_ABSOLUTE_MS,
      first: { hash: refreshTokenHash(refreshToken), expiresAt: at + REFRESH_IDLE_MS },
    }
    if (!(await users.insertFamily(family, user.passwordHash, at))) throw invalidCredentials()
    const token = { userId: user.id, signInId: family.id }
    return { user, ...token, accessToken: await tokens.issueUserToken(token), refreshToken }
  }

  /** Ends the sessions of sign-ins that have ended. */
  async function endSessionsOfEnded(userId: string): Promise<void> {
    await endSessions(userId, await users.listSignIns(userId, clock.latest()))
  }

  /** A new sign-in in place of all others. It takes over the sessions of one, and those of the others end. */
  async function signInAgain(user: User, from: string): Promise<SignedIn> {
    const signedIn = await signIn(user)
    await endSessions(user.id, await users.listSignIns(user.id, clock.latest()), { from, to: signedIn.signInId })
    return signedIn
  }

  async function me({ userId }: UserToken): Promise<User> {
    const user = await users.findUser(userId)
    if (!user) throw userGone()
    return user
  }

  async function create(email: string | null, name: string | undefined, passwordHash: string | null): Promise<User> {
    const user: User = {
      id: newId('user', clock.latest()),
      email,
      name: name ?? null,
      passwordHash,
      createdAt: clock.now(),
    }
    if (!(await users.insertUser(user))) throw emailTaken()
    return user
  }

  async function upgrade(guest: User, { email, name, password }: Registration): Promise<User> {
    if (guest.email !== null) throw alreadyRegistered()
    const passwordHash = await passwords.hash(password)
    const outcome = await users.upgradeGuest({ id: guest.id, email, name: name ?? null, passwordHash }, clock.latest())
    if (outcome === 'email_taken') throw emailTaken()
    if (outcome === 'not_a_guest') throw alreadyRegistered()
    return { ...guest, email, name: name ?? guest.name, passwordHash }
  }

  return {
    me,
    async register(registration, guest) {
      if (guest) return signInAgain(await upgrade(await me(guest), registration), guest.signInId)
      const passwordHash = await passwords.hash(registration.password)
      return signIn(await create(registration.email, registration.name, passwordHash))
    },
    async login(email, password) {
      const user = await users.findUserByEmail(email)
      const { matches, rehashed } = await passwords.check(password, user?.passwordHash ?? null)
      if (!user?.passwordHash || !matches) throw invalidCredentials()
      if (!rehashed) return signIn(user)
      const change = { id: user.id, from: user.passwordHash, to: rehashed, revoke: false }
      // A concurrent login may have replaced it as well.
      if (!(await users.updatePasswordHash(change, clock.latest()))) return this.login(email, password)
      return signIn({ ...user, passwordHash: rehashed })
    },
    guest: async (name) => signIn(await create(null, name, null)),
    async refresh(parent) {
      const child = childRefreshToken(await loadRefreshKey(), parent)
      const limits = { idleMs: REFRESH_IDLE_MS, graceMs: REFRESH_GRACE_MS }
      const rotation = await users.rotate(refreshTokenHash(parent), refreshTokenHash(child), clock.latest(), limits)
      // After `revoked` as well: the process may have stopped before it ended them.
      if (rotation.outcome === 'reused' || rotation.outcome === 'revoked') await endSessionsOfEnded(rotation.userId)
      if (rotation.outcome !== 'rotated' && rotation.outcome !== 'repeated') throw invalidRefreshToken()
      const user = await users.findUser(rotation.userId)
      if (!user) throw invalidRefreshToken()
      const accessToken = await tokens.issueUserToken({ userId: user.id, signInId: rotation.familyId })
      return { user, accessToken, refreshToken: child }
    },
    async logout(refreshToken) {
      const userId = await users.revokeFamilyOf(refreshTokenHash(refreshToken), clock.latest())
      if (userId !== null) await endSessionsOfEnded(userId)
    },
    async logoutAll({ userId }) {
      // Queued in the same turn, so that one commit holds both: after a crash between them no client could ask again.
      await Promise.all([users.revokeFamilies(userId, clock.latest()), endSessions(userId, [])])
    },
    async changePassword(user, { signInId }, current, next) {
      const { matches } = await passwords.check(current, user.passwordHash)
      if (user.passwordHash === null || !matches) throw invalidCredentials()
      const passwordHash = await passwords.hash(next)
      // Before the sign-ins, too: should the rest fail, the client can ask again with the old password.
      await endSessions(user.id, [signInId])
      const change = { id: user.id, from: user.passwordHash, to: passwordHash, revoke: true }
      if (!(await users.updatePasswordHash(change, clock.latest()))) throw invalidCredentials()
      return signInAgain({ ...user, passwordHash }, signInId)
    },
  }
}

const emailTaken = () => new AppError('email_taken', 'An account with this e-mail already exists.')
const invalidCredentials = () => new AppError('invalid_credentials', 'The e-mail or the password is wrong.')
const alreadyRegistered = () => new AppError('already_registered', 'This user already has an e-mail and a password.')
const invalidRefreshToken = () =>
  new AppError('invalid_refresh_token', 'The refresh token is not valid: sign in again.')
