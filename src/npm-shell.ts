// npm passes a signal on to its shell, and many shells end without passing it on to the program. Started by npm, this
// process takes the end of the shell as its own SIGTERM; otherwise it may outlive the shell that started it.
// biome-ignore lint/style/noProcessEnv: npm's, not a setting
if (process.env.npm_lifecycle_event !== undefined) {
  const shell = process.ppid
  const watch = setInterval(() => {
    if (process.ppid === shell) return
    clearInterval(watch)
    process.kill(process.pid, 'SIGTERM')
  }, 200)
  watch.unref()
}
