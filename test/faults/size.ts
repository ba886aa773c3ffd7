/** `npm run soak` sets it: every suite here in full instead of a tenth. */
const SOAK = process.env.BEHALF_SOAK === '1'

/** How much of something to do: by default and in the soak. */
export const sized = <T>(byDefault: T, inSoak: T): T => (SOAK ? inSoak : byDefault)

/** `BEHALF_SEED` repeats a run; by default it is always the same tenth, in the soak another one each time. */
export const SEED = Number(process.env.BEHALF_SEED ?? sized(20260101, Date.now() % 2_147_483_647))

/** A figure for the report, also of a run that passes. */
export const report = (what: string, figures: Record<string, string | number>) =>
  process.stdout.write(
    `${what}: ${Object.entries(figures)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ')}\n`,
  )
