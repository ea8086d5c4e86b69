/** An error as plain data, because structured clone drops name, code and own fields. Filled by `toFault`, read by `fromFault`. */
export interface Fault {
  readonly name: string;
  readonly message: string;
  readonly code?: string | number;
  readonly stack?: string;
  readonly cause?: Fault;
  /** AggregateError's parts. */
  readonly errors?: readonly Fault[];
  /** Own enumerable fields that are plain data (string, number, boolean, null), at most 16. */
  readonly fields?: Readonly<Record<string, string | number | boolean | null>>;
}
