import { spawnSync } from 'node:child_process'

/** Whether system calls can be made to fail here: `strace` is installed, and may trace what it starts. */
export const strace = (): boolean => spawnSync('strace', ['-e', 'trace=none', 'true'], { stdio: 'ignore' }).status === 0
