/** A JWS in compact serialization (RFC 7515 §7.1); `sign` returns the signature over the text that it is given. */
export function compactJws(header: object, payload: object, sign: (input: string) => Buffer): string {
  const input = `${encode(header)}.${encode(payload)}`
  return `${input}.${sign(input).toString('base64url')}`
}

const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')
