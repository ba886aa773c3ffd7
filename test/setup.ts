import { beforeEach, inject } from 'vitest'
import { cleanUp } from './database.ts'

if (inject('postgresTemplate') === null) beforeEach((context) => context.skip('no postgres server'))
cleanUp()
