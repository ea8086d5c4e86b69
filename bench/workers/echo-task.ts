/** The task file of piscina and tinypool. */
export default function echo(input: Float32Array): Float32Array {
  return input;
}
