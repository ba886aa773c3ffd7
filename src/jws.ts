/** A part of a JWS, in base64url (RFC 7515 §3.1). */
export const jwsPart = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url')

/** A JWS in compact serialization (RFC 7515 §7.1), of an encoded header. `sign` returns the encoded signature over its input. */
export function compactJws(header: string, payload: object, sign: (input: string) => string): string {
  const input = `${header}.${jwsPart(payload)}`
  return `${input}.${sign(input)}`
}
