import './node-version.ts'

const { startService } = await import('./start.ts')
startService()
