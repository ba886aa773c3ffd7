// Imported first and alone: an older Node would fail at the syntax of a dependency, with a message about that.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const isSupported = major === 20 ? minor >= 19 : major === 22 ? minor >= 12 : major > 22

if (!isSupported) {
  process.stderr.write(`Behalf needs Node 20.19, 22.12 or newer; this is ${process.versions.node}.\n`)
  process.exit(1)
}
