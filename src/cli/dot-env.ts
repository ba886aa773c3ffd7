/**
 * Reads `.env` of the working directory into the environment, which itself wins; not in production, where settings come
 * from one place only. Nothing happens when there is no such file.
 */
export function loadDotEnv(env: { NODE_ENV?: string | undefined }): void {
  if (env.NODE_ENV === 'production') return
  try {
    process.loadEnvFile()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
