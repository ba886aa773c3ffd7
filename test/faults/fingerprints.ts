/**
 * A set of strings that keeps 64 bits of each: tens of millions fit where a Set of strings would not. Two strings with the
 * same 64 bits would be taken for one; among 2 × 10⁷ that has a chance of about 1 in 10⁵.
 */
export function fingerprints() {
  let slots = 1 << 16
  let table = new Uint32Array(slots * 2)
  let size = 0

  /** Where it is, or the free place where it belongs. */
  function find(high: number, low: number): { at: number; found: boolean } {
    for (let i = (low ^ high) & (slots - 1); ; i = (i + 1) & (slots - 1)) {
      const at = 2 * i
      if (table[at] === high && table[at + 1] === low) return { at, found: true }
      if (table[at] === 0 && table[at + 1] === 0) return { at, found: false }
    }
  }

  /** False when it was there already. */
  function insert(high: number, low: number): boolean {
    const { at, found } = find(high, low)
    if (found) return false
    table[at] = high
    table[at + 1] = low
    size++
    return true
  }

  function grow(): void {
    const old = table
    slots *= 2
    table = new Uint32Array(slots * 2)
    size = 0
    for (let i = 0; i < old.length; i += 2) if (old[i] || old[i + 1]) insert(old[i] ?? 0, old[i + 1] ?? 0)
  }

  return {
    add(text: string): boolean {
      if (size * 2 > slots) grow()
      return insert(...hashes(text))
    },
    has: (text: string) => find(...hashes(text)).found,
    size: () => size,
  }
}

export type Fingerprints = ReturnType<typeof fingerprints>

/** Two 32-bit hashes with different mixing (cyrb64). */
function hashes(text: string): [number, number] {
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    a = Math.imul(a ^ code, 2654435761)
    b = Math.imul(b ^ code, 1597334677)
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909)
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909)
  // Two zeros mark a free place.
  return [a >>> 0, b >>> 0 || 1]
}
