import { build } from 'esbuild'
import { expect, test } from 'vitest'

test('the client bundles for browsers without Node built-ins, server code or livekit-client', async () => {
  const { metafile, outputFiles } = await build({
    entryPoints: ['packages/client/src/index.ts'],
    bundle: true,
    format: 'esm',
    platform: 'browser',
    minify: true,
    metafile: true,
    write: false,
  })
  const strangers = Object.keys(metafile.inputs).filter(
    (path) => !/^packages\/client\/src\/|^node_modules\/eventsource-parser\//.test(path),
  )
  expect(strangers).toEqual([])
  expect(outputFiles[0]?.contents.length).toBeLessThan(32 * 1024)
})
