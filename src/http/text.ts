/** Whether a name is free of control characters, which could steer a terminal that shows it. */
export const hasNoControlCharacters = (value: string): boolean => !/\p{Cc}/u.test(value)
