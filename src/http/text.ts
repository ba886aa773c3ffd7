/**
 * What a reader does not see, or what changes how the text around it is shown: control characters, line separators,
 * bidirectional marks, zero-width characters, halves of surrogate pairs.
 */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu
/** Invisible, but emoji and some scripts need them: joiners, variation selectors, tags. */
const JOINING = /\u200c|\u200d|[\ufe0e\ufe0f\u{e0020}-\u{e007f}]/gu

/** Text without its invisible characters. */
export const withoutInvisible = (text: string): string => text.replace(INVISIBLE, '')

/** Whether a person's name has something to see, and nothing invisible but what emoji and some scripts need. */
export function isDisplayName(name: string): boolean {
  const shown = name.replace(JOINING, '')
  return shown.trim() !== '' && withoutInvisible(shown) === shown
}

/** Text for a terminal or a log line: whatever could steer it or hide in it is escaped as in JSON, which stays valid. */
export const printable = (text: string): string =>
  // Nearly all of it is plain ASCII, which is found out faster.
  !/[^ -~]/.test(text)
    ? text
    : text.replace(/[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu, (character) =>
        Array.from({ length: character.length }, (_, i) => `\\u${hex4(character.charCodeAt(i))}`).join(''),
      )

const hex4 = (code: number) => code.toString(16).padStart(4, '0')

/** Longer names are not compared. */
const MAX_COMPARED = 40

/** The known name that was probably meant: equal but for case, `_` and `-`, or at most two edits away. */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  if (name.length > MAX_COMPARED) return undefined
  const plain = (text: string) => text.replace(/[_-]/g, '').toLowerCase()
  const distances = known.map((candidate) => ({ candidate, edits: editDistance(plain(name), plain(candidate)) }))
  const [nearest] = distances.sort((a, b) => a.edits - b.edits)
  return nearest && nearest.edits <= Math.min(2, name.length / 3) ? nearest.candidate : undefined
}

/** Levenshtein's: insertions, deletions and substitutions that turn one text into the other. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, i) => i)
  for (const [i, letter] of [...from].entries()) {
    const next = [i + 1]
    for (let j = 0; j < to.length; j++) {
      const substituted = (row[j] ?? 0) + (letter === to[j] ? 0 : 1)
      next.push(Math.min(substituted, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row[to.length] ?? 0
}
