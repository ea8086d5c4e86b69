/** Takes out what stands there and closes the gap. For short lists: splice makes an array of what it took. */
export function removeAt<T>(array: T[], at: number): void {
  const last = array.length - 1;
  for (let i = at; i < last; i++) array[i] = array[i + 1] as T;
  array.pop();
}
