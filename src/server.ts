import './node-version.ts'
import './npm-shell.ts'

const { startService } = await import('./start.ts')
startService()
