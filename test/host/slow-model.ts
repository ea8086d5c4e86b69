/** An ONNX model that takes a while: a chain of matrix products, written byte by byte because nothing else is needed. */
export function slowModel(size: number, productCount: number): Uint8Array {
  const nodes: number[][] = [];
  for (let i = 0; i < productCount; i++) {
    const from = i === 0 ? 'x' : `t${i}`;
    const to = i === productCount - 1 ? 'y' : `t${i + 1}`;
    nodes.push(
      field(1, [...field(1, text(from)), ...field(1, text('x')), ...field(2, text(to)), ...field(4, text('MatMul'))]),
    );
  }
  const graph = [
    ...nodes.flat(),
    ...field(2, text('slow')),
    ...field(11, valueInfo('x', size)),
    ...field(12, valueInfo('y', size)),
  ];
  const opset = [...field(1, text('')), ...number(2, 13)];
  return Uint8Array.from([...number(1, 8), ...field(7, graph), ...field(8, opset)]);
}

function valueInfo(name: string, size: number): number[] {
  const dim = field(1, number(1, size));
  const tensor = [...number(1, 1), ...field(2, [...dim, ...dim])];
  return [...field(1, text(name)), ...field(2, field(1, tensor))];
}

function field(tag: number, bytes: readonly number[]): number[] {
  return [(tag << 3) | 2, ...varint(bytes.length), ...bytes];
}

function number(tag: number, value: number): number[] {
  return [tag << 3, ...varint(value)];
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return [...bytes, rest];
}

function text(value: string): number[] {
  return [...Buffer.from(value)];
}
