/** One value that lasts as long as the tab, reloads included. */
export function kept(name: string) {
  const key = `behalf.${name}`
  return {
    get: (): string | null => sessionStorage.getItem(key),
    set: (value: string | null): void =>
      value === null ? sessionStorage.removeItem(key) : sessionStorage.setItem(key, value),
  }
}
