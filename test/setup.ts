import { cleanUp } from './database.ts'

cleanUp()
