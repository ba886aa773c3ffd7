import { startService } from './start.ts'

startService()
