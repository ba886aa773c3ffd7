/** The service's modules as `npm run build` leaves them, since they are what runs, with the types of their sources. */
const load = <T>(path: string) => import(new URL(`../dist/${path}.js`, import.meta.url).href) as Promise<T>

export const built = {
  groupCommit: () => load<typeof import('../src/store/sqlite/group-commit.ts')>('store/sqlite/group-commit'),
  hs256: () => load<typeof import('../src/livekit/hs256.ts')>('livekit/hs256'),
  joinToken: () => load<typeof import('../src/livekit/join-token.ts')>('livekit/join-token'),
  keys: () => load<typeof import('../src/auth/keys.ts')>('auth/keys'),
  sqlite: () => load<typeof import('../src/store/sqlite/sqlite.ts')>('store/sqlite/sqlite'),
  store: () => load<typeof import('../src/store/store.ts')>('store/store'),
  tokens: () => load<typeof import('../src/auth/tokens.ts')>('auth/tokens'),
  wal: () => load<typeof import('../src/store/sqlite/wal.ts')>('store/sqlite/wal'),
}
