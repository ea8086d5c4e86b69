/** Takes out what stands there and closes the gap. For short lists: splice makes an array of what it took. */
export function removeAt<T>(array: T[], at: number): void {
  const last = array.length - 1;
  for (let i = at; i < last; i++) array[i] = array[i + 1] as T;
  array.pop();
}

/** Puts it there and moves the rest along. `splice` leaves compiled code for that, which pays only where much is moved. */
export function insertAt<T>(array: T[], at: number, item: T): void {
  if (array.length - at > MANY) {
    array.splice(at, 0, item);
    return;
  }
  array.push(item);
  for (let i = array.length - 1; i > at; i--) array[i] = array[i - 1] as T;
  array[at] = item;
}

const MANY = 32;

/** One by one: to set the length to zero leaves compiled code, and gives away the room that is asked for again at once. */
export function emptied<T>(array: T[]): T[] {
  while (array.length > 0) array.pop();
  return array;
}
