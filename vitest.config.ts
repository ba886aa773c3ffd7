import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** Not run again on PostgreSQL. */
const ABOUT_SQLITE = [
  // About SQLite's transactions, files and locks, or about the store's commands, which PostgreSQL has its own tools for.
  'test/group-commit.test.ts',
  'test/wal.test.ts',
  'test/lock.test.ts',
  'test/command-store.test.ts',
  'test/store-cli.test.ts',
  // They start the service on a file as a process of its own, or open no store at all.
  'test/start.test.ts',
  'test/shutdown.test.ts',
  'test/event-stream-soak.test.ts',
  'test/command-line.test.ts',
  'test/client-bundle.test.ts',
  'test/clock.test.ts',
  'test/config.test.ts',
  'test/counters.test.ts',
  'test/house.test.ts',
  'test/lifecycle.test.ts',
  'test/readme.test.ts',
  'test/removal-order.test.ts',
  'test/security.test.ts',
  // About HTTP alone, or about rules under a clock that the test injects: the database's own has test/postgres.
  'test/address.test.ts',
  'test/clock-steps.test.ts',
  'test/common-headers.test.ts',
  'test/deployment.test.ts',
  'test/http-limits.test.ts',
  'test/log.test.ts',
  'test/odd-requests.test.ts',
  'test/slow-clients.test.ts',
  'test/unread-answers.test.ts',
  // Matrices of requests that are refused before the store decides anything; they would take a third of the time.
  'test/malformed-jwt.test.ts',
  'test/openapi.test.ts',
  'test/request-bodies.test.ts',
  'test/routes.test.ts',
  'test/spoof-body.test.ts',
  'test/token-matrix.test.ts',
  'test/token-refusals.test.ts',
]

/** Not run again on PostgreSQL, of the tests with real servers. */
const E2E_WITHOUT_POSTGRES = [
  // No service, or one on a file inside an image or a package.
  'test/e2e/container.test.ts',
  'test/e2e/fake-sfu.test.ts',
  'test/e2e/server-package.test.ts',
]

/** Not run again on PostgreSQL, of the faults. */
const FAULTS_WITHOUT_POSTGRES = [
  // Faults of SQLite's file; those of PostgreSQL are in postgres-outages.test.ts.
  'test/faults/disk.test.ts',
  // Rules and sockets alone: no store.
  'test/faults/exhaustion.test.ts',
  'test/faults/idle-sockets.test.ts',
]

/** Several instances, or a fault of the database server: only on PostgreSQL. */
const ABOUT_POSTGRES = [
  'test/e2e/instances.test.ts',
  'test/faults/instances.test.ts',
  'test/faults/instance-restarts.test.ts',
  'test/faults/postgres-outages.test.ts',
]

const onPostgres = 'test/postgres-setup.ts'

const e2e = {
  include: ['test/e2e/*.test.ts'],
  setupFiles: ['test/setup.ts'],
  // Real servers and real media: one file at a time, so that no deadline is missed by load.
  fileParallelism: false,
  // @livekit/rtc-node prints its debug log otherwise. The servers under test are given their own environment.
  env: { NODE_ENV: 'production' },
  testTimeout: 60_000,
  hookTimeout: 60_000,
}

const faults = {
  include: ['test/faults/*.test.ts'],
  setupFiles: ['test/setup.ts'],
  // A tenth by default; whole with BEHALF_SOAK=1, which takes minutes. One at a time, since they compare times.
  fileParallelism: false,
  testTimeout: process.env.BEHALF_SOAK === '1' ? 1_800_000 : 180_000,
  hookTimeout: 60_000,
}

export default defineConfig({
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: 'http',
          include: ['test/*.test.ts'],
          // Loading the app anew for each file would take half of the time, and no file changes what another one loads.
          isolate: false,
          setupFiles: ['test/setup.ts'],
          // One more than there are cores: half of the time is spent waiting.
          maxWorkers: availableParallelism() + 1,
          sequence: { groupOrder: 0 },
          testTimeout: 30_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'postgres',
          include: ['test/*.test.ts', 'test/postgres/*.test.ts'],
          exclude: ABOUT_SQLITE,
          isolate: false,
          globalSetup: [onPostgres],
          setupFiles: ['test/setup.ts'],
          maxWorkers: availableParallelism() + 1,
          sequence: { groupOrder: 1 },
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        extends: true,
        test: {
          ...e2e,
          name: 'e2e',
          exclude: ABOUT_POSTGRES,
          globalSetup: ['test/e2e/global-setup.ts'],
          sequence: { groupOrder: 2 },
        },
      },
      {
        extends: true,
        test: {
          ...e2e,
          name: 'e2e-postgres',
          exclude: E2E_WITHOUT_POSTGRES,
          globalSetup: ['test/e2e/global-setup.ts', onPostgres],
          sequence: { groupOrder: 3 },
        },
      },
      {
        extends: true,
        test: {
          ...e2e,
          name: 'browser',
          include: ['test/browser/*.test.ts'],
          globalSetup: ['test/browser/global-setup.ts'],
          sequence: { groupOrder: 4 },
        },
      },
      {
        extends: true,
        test: {
          ...faults,
          name: 'faults',
          exclude: ABOUT_POSTGRES,
          globalSetup: ['test/faults/global-setup.ts'],
          sequence: { groupOrder: 5 },
        },
      },
      {
        extends: true,
        test: {
          ...faults,
          name: 'faults-postgres',
          exclude: FAULTS_WITHOUT_POSTGRES,
          globalSetup: [onPostgres],
          sequence: { groupOrder: 6 },
        },
      },
    ],
  },
})
