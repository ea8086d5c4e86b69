/** The path of the method, and of the one whose messages come as a stream. */
export const GRPC_PATH = '/inference.GRPCInferenceService/ModelInfer';
export const GRPC_STREAM_PATH = '/inference.GRPCInferenceService/ModelStreamInfer';

/** A ModelInferRequest for one float32 record `x`, up to the bytes of its one raw tensor, which come last. */
export function grpcHead(name: string, values: number): Buffer {
  const field = (number: number, bytes: Uint8Array): Buffer =>
    Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
  const text = (number: number, value: string): Buffer => field(number, Buffer.from(value));
  const shape = field(3, Buffer.concat([varint(1), varint(values)]));
  const input = Buffer.concat([text(1, 'x'), text(2, 'FP32'), shape]);
  return Buffer.concat([text(1, name), field(5, input), varint(7 * 8 + 2), varint(4 * values)]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let left = value; ; left >>>= 7) {
    bytes.push(left > 0x7f ? (left & 0x7f) | 0x80 : left);
    if (left <= 0x7f) return Buffer.from(bytes);
  }
}
