/** Whether a name that people and terminals are shown holds nothing that steers them. */
export const hasNoControlCharacters = (value: string): boolean => !/\p{Cc}/u.test(value)
