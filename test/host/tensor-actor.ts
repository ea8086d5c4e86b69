import { defineActor } from '../../src/actor/define-actor.js';
import type { Columns } from '../../src/wire/tensor.js';

/** Doubles x [4] and sums it; `kind` is echoed. */
export default defineActor({
  signature: {
    inputs: [
      { name: 'x', dtype: 'float32', shape: [4] },
      { name: 'kind', dtype: 'string', shape: [] },
    ],
    outputs: [
      { name: 'doubled', dtype: 'float32', shape: [4] },
      { name: 'sum', dtype: 'float64', shape: [] },
      { name: 'kind', dtype: 'string', shape: [] },
    ],
  },
  predict({ count, columns }: Columns) {
    const x = columns['x']?.data as Float32Array;
    const kind = columns['kind']?.data as string[];
    const sum = new Float64Array(count);
    for (let i = 0; i < x.length; i++) sum[i >> 2] = (sum[i >> 2] ?? 0) + (x[i] ?? 0);
    const isLying = kind[0] === 'lie';
    return {
      count,
      columns: {
        doubled: { dtype: 'float32', shape: [4], data: x.map((value) => value * 2) },
        sum: { dtype: 'float64', shape: [], data: isLying ? new Float64Array(count + 1) : sum },
        kind: { dtype: 'string', shape: [], data: kind },
      },
    };
  },
});
