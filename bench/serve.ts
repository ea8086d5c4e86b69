import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { performance } from 'node:perf_hooks';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { createSystem, defineActor, type Signature, silentLog, type System } from 'troupe';
import { type Lap, lapOf } from './laps.js';
import { GRPC_PATH, grpcHead } from './peers/grpc-tensor.js';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';
import type { Order, Outcome } from './workers/serve-client.js';

/**
 * Requests per second of the server, over HTTP against a bare node:http server and over gRPC against a bare grpc-js server,
 * each of which gives back the bytes it is sent and knows nothing of them. Ours reads them as a request, has an actor give the
 * tensor back by way of mailbox and batch, and writes an answer. The clients are the same, in a process of their own.
 */
const CONNECTIONS = 32;
/** As ours: a lap of the other side may take longer than the five seconds of Node, and a connection cut meanwhile is no answer. */
const KEEP_ALIVE_MS = 310_000;
const SIZES = [
  { name: 'small', values: 64, what: '64 floats' },
  { name: 'large', values: 262_144, what: '1 MiB' },
] as const;
const TARGETS = { http: 0.5, grpc: 0.7 } as const;

export interface ServeBenchOptions {
  readonly rounds: number;
  readonly laneMs: number;
  readonly progress: (line: string) => void;
}

type Size = (typeof SIZES)[number];
type Protocol = keyof typeof TARGETS;

export async function benchServe({ rounds, laneMs, progress }: ServeBenchOptions): Promise<Row[]> {
  const system = createSystem({ log: silentLog });
  const bareHttp = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => response.end(Buffer.concat(parts)));
  });
  const bareGrpc = new Server({ 'grpc.max_receive_message_length': -1 });
  const client = fork(workerUrl('serve-client'));
  try {
    const ours = await serve(system);
    bareHttp.keepAliveTimeout = KEEP_ALIVE_MS;
    bareHttp.listen(0, '127.0.0.1');
    await once(bareHttp, 'listening');
    const theirs = { http: (bareHttp.address() as AddressInfo).port, grpc: await echo(bareGrpc) };
    const rows: Row[] = [];
    for (const protocol of ['http', 'grpc'] as const)
      for (const size of SIZES)
        rows.push(
          await compare(
            client,
            protocol,
            size,
            { ours: ours[protocol], theirs: theirs[protocol] },
            { rounds, laneMs, progress },
          ),
        );
    return rows;
  } finally {
    client.kill('SIGKILL');
    bareGrpc.forceShutdown();
    bareHttp.close();
    bareHttp.closeAllConnections();
    await system.stop();
  }
}

async function serve(system: System): Promise<Record<Protocol, number>> {
  for (const { name, values } of SIZES) {
    const tensor = (as: string): Signature['inputs'][number] => ({ name: as, dtype: 'float32', shape: [values] });
    await system.spawn(name, {
      actor: defineActor({
        signature: { inputs: [tensor('x')], outputs: [tensor('y')] },
        predict: ({ count, columns }) => ({ count, columns: { y: columns['x'] as never } }),
      }),
    });
  }
  const { addresses } = await system.serve({ port: 0, grpc: { port: 0 } });
  const [http = 0, grpc = 0] = addresses.map(({ port }) => port);
  return { http, grpc };
}

/** A method that gives back what it is given, unread. */
function echo(server: Server): Promise<number> {
  const same = (bytes: Buffer): Buffer => bytes;
  server.register(
    GRPC_PATH,
    (call: { request: Buffer }, done: (error: null, bytes: Buffer) => void) => done(null, call.request),
    same,
    same,
    'unary',
  );
  return new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    );
  });
}

async function compare(
  client: ChildProcess,
  protocol: Protocol,
  size: Size,
  ports: { readonly ours: number; readonly theirs: number },
  { rounds, laneMs, progress }: ServeBenchOptions,
): Promise<Row> {
  const laps: Record<'ours' | 'theirs', Lap[]> = { ours: [], theirs: [] };
  for (let round = 0; round <= rounds; round++) {
    // The one that begins has the coldest caches: each begins in turn.
    for (const side of round % 2 === 0 ? (['ours', 'theirs'] as const) : (['theirs', 'ours'] as const)) {
      const got = await lap(client, { ...orderOf(protocol, size), port: ports[side], ms: 2 * laneMs });
      if (round > 0) laps[side].push(got); // The first warms up.
    }
    if (round === 0) continue;
    const said = (['ours', 'theirs'] as const).map((side) => Math.round((laps[side].at(-1) as Lap).rate));
    progress(`serve/${protocol}-${size.name}: round ${round} of ${rounds}: ours ${said[0]}, theirs ${said[1]}`);
  }
  const ratios = laps.ours.map(({ rate }, round) => rate / (laps.theirs[round] as Lap).rate);
  const ratio = median(ratios);
  const [least, most] = spread(ratios);
  return {
    part: 'serve',
    id: `serve/${protocol}-${size.name}`,
    what: `requests/s over ${protocol === 'http' ? 'HTTP' : 'gRPC'}, ${CONNECTIONS} connections, ${size.what}`,
    against: protocol === 'http' ? 'bare node:http, the same bytes back' : 'bare grpc-js, the same bytes back',
    ours: rounded(median(laps.ours.map(({ rate }) => rate)), 0),
    theirs: rounded(median(laps.theirs.map(({ rate }) => rate)), 0),
    ratio: rounded(ratio, 2),
    cpuMicros: { ours: cpuOf(laps.ours), theirs: cpuOf(laps.theirs) },
    spread: [rounded(least, 2), rounded(most, 2)],
    target: TARGETS[protocol],
    met: ratio >= TARGETS[protocol],
  };
}

function cpuOf(laps: readonly Lap[]): number {
  return rounded(median(laps.map(({ cpuMicros }) => cpuMicros)), 0);
}

/** Answers per second, and the CPU time that the process of the servers took for each. */
async function lap(client: ChildProcess, order: Order): Promise<Lap> {
  const [startedAt, cpuFrom] = [performance.now(), process.cpuUsage()];
  const { answers } = await new Promise<Outcome>((resolve, reject) => {
    const ended = (code: number | null): void => reject(new Error(`The client ended with ${code}`));
    client.once('exit', ended);
    client.once('message', (outcome: Outcome) => {
      client.off('exit', ended);
      resolve(outcome);
    });
    client.send(order);
  });
  return lapOf(answers, startedAt, cpuFrom);
}

function orderOf(protocol: Protocol, { name, values }: Size): Omit<Order, 'port' | 'ms'> {
  const tensor = Buffer.from(Float32Array.from({ length: values }, (_, index) => index).buffer);
  const common = { protocol, connections: CONNECTIONS, leastBytes: tensor.length };
  if (protocol === 'grpc')
    return {
      ...common,
      path: GRPC_PATH,
      headers: {},
      body: Buffer.concat([grpcHead(name, values), tensor]).toString('base64'),
    };
  const head = JSON.stringify({
    inputs: [{ name: 'x', datatype: 'FP32', shape: [1, values], parameters: { binary_data_size: tensor.length } }],
    outputs: [{ name: 'y', parameters: { binary_data: true } }],
  });
  return {
    ...common,
    path: `/v2/models/${name}/infer`,
    headers: { 'inference-header-content-length': head.length },
    body: Buffer.concat([Buffer.from(head), tensor]).toString('base64'),
  };
}
