// The actor `triton` and `connect` before a real Triton (of nvidia-pytriton), over HTTP and gRPC: what was asked, what came.
import { isDeepStrictEqual } from 'node:util';
import { connect, createSystem, silentLog } from 'troupe';

const RECORDS = 100;
/** The models of pytriton_server.py take so many records at once. */
const MAX_BATCH = 32;
/** Three values of each datatype, the ends of its range among them. */
const VALUES = {
  BOOL: Uint8Array.of(0, 1, 1),
  UINT8: Uint8Array.of(0, 1, 255),
  UINT16: Uint16Array.of(0, 1, 65_535),
  UINT32: Uint32Array.of(0, 1, 4_294_967_295),
  UINT64: BigUint64Array.of(0n, 1n, 2n ** 64n - 1n),
  INT8: Int8Array.of(-128, 0, 127),
  INT16: Int16Array.of(-32_768, 0, 32_767),
  INT32: Int32Array.of(-2_147_483_648, 0, 2_147_483_647),
  INT64: BigInt64Array.of(-(2n ** 63n), 0n, 2n ** 63n - 1n),
  FP16: Uint16Array.of(0x3c00, 0x0001, 0x7bff),
  FP32: Float32Array.of(1e-45, -0, 3.4028234663852886e38),
  FP64: Float64Array.of(5e-324, -0, 1.7976931348623157e308),
  BYTES: ['', 'ü', 'a"b'],
};

/** The lines of the page, as { what, fact }. Throws where something else comes than should. */
export async function askTriton({ ports }) {
  const lines = [];
  const tell = (what, fact) => {
    lines.push({ what, fact });
    process.stdout.write(`ok ${what}: ${fact}\n`);
  };
  for (const way of ['http', 'grpc']) await askOver(`${way}://127.0.0.1:${ports[way]}`, way, tell);
  return lines;
}

async function askOver(endpoint, way, tell) {
  const system = createSystem({ log: silentLog });
  const connection = connect(endpoint);
  const spawn = (name, { batching = { maxSize: 64, adaptive: false }, ...options }) =>
    system.spawn(name, { actor: 'triton', batching, options: { endpoint, ...options } });
  try {
    const whole = [];
    for (const compression of ['none', 'gzip', 'deflate'])
      for (const name of Object.keys(VALUES)) {
        const model = `mirror_${name.toLowerCase()}`;
        const pool = await spawn(`${model}-${compression}`, { model, compression });
        expect(await askMany(pool, name), `${model} over ${way}`);
        if (compression === 'none') whole.push(name);
        await pool.stop();
      }
    tell(`${way}: datatypes`, whole.join(', '));
    tell(`${way}: compression`, 'none, gzip, deflate');
    const pool = await spawn('mirror_fp32', {});
    await askMany(pool, 'FP32');
    const before = (await pool.call('counts')).requests;
    expect(await askMany(pool, 'FP32'), `mirror_fp32 over ${way}`);
    const requests = (await pool.call('counts')).requests - before;
    const least = Math.ceil(RECORDS / MAX_BATCH);
    if (requests < least) throw new Error(`${RECORDS} records in ${requests} requests over ${way}`);
    tell(
      `${way}: ${RECORDS} records in batches of up to 64`,
      `requests of ${MAX_BATCH} records at most, as its configuration says`,
    );
    const byHand = { name: 'FP32', dtype: 'float32', shape: [3] };
    const signature = { inputs: [byHand], outputs: [{ ...byHand, name: 'out_FP32' }] };
    expect(await askMany(await spawn('by-hand', { model: 'mirror_fp32', signature }), 'FP32'), 'a signature by hand');
    tell(`${way}: signature by hand, version`, await versioned(spawn));
    await askFaulty(await spawn('picky', {}), way, tell);
    await refused(() => spawn('none', {}), `${way}: a model that is not there`, tell);
    const slow = await spawn('slow', { timeoutMs: 300, retryForMs: 0 });
    await refused(() => slow.ask({ FP32: Float32Array.of(1, 2, 3) }), `${way}: an answer after ${300} ms`, tell);
    expect(await askMany(connection.pool('mirror_int64'), 'INT64'), `connect over ${way}`);
    tell(`${way}: connect`, `${RECORDS} records of INT64`);
  } finally {
    await connection.close();
    await system.stop({ timeoutMs: 0 });
  }
}

async function versioned(spawn) {
  const outcomes = await askMany(await spawn('versioned', { model: 'mirror_fp32', version: 1 }), 'FP32');
  expect(outcomes, 'version 1');
  return `${outcomes.length} records`;
}

async function askFaulty(pool, way, tell) {
  const outcomes = await pool.askMany(Array.from({ length: 40 }, (_, at) => ({ FP32: Float32Array.of(at, 0, 0) })));
  const failed = outcomes.flatMap((outcome, at) => (outcome.ok ? [] : [[at, outcome.error]]));
  if (failed.length !== 1 || failed[0][0] !== 13)
    throw new Error(`records ${failed.map(([at]) => at)} failed over ${way}: ${failed[0]?.[1].message}`);
  tell(`${way}: a record at which its model throws, among 40`, `${failed[0][1].code}, the others are answered`);
}

async function refused(call, what, tell) {
  try {
    await call();
  } catch (error) {
    return tell(what, error.code ?? String(error));
  }
  throw new Error(`${what} was answered`);
}

/** The values that did not come back as they went; `pool` may be any. */
async function askMany(pool, name) {
  const outcomes = await pool.askMany(Array.from({ length: RECORDS }, () => ({ [name]: VALUES[name] })));
  for (const outcome of outcomes) {
    if (!outcome.ok) throw outcome.error;
    const back = outcome.value[`out_${name}`];
    if (!isDeepStrictEqual(Array.from(back), Array.from(VALUES[name]))) throw new Error(`${name}: ${back} came back`);
  }
  return outcomes;
}

function expect(outcomes, what) {
  if (outcomes.length !== RECORDS) throw new Error(`${what}: ${outcomes.length} of ${RECORDS} answered`);
}
