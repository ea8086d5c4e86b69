import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { parseAllDocuments } from 'yaml';
import { send } from '../serve/oip-stand.js';

/** The files of docs/deploy do what they say, as far as that can be seen without systemd, Kubernetes or a container engine. */

const SCRIPT = new URL('../../../scripts/interop/deploy.mjs', import.meta.url).href;

interface Checked {
  readonly lines: readonly { readonly what: string; readonly fact: string }[];
  readonly missing: readonly string[];
}

const root = fileURLToPath(new URL('../../../', import.meta.url));
const deploy = (name: string): string => readFileSync(path.join(root, 'docs/deploy', name), 'utf8');
const TOKENS = { INFER_TOKEN: 'infer-0123456789abcdef', ADMIN_TOKEN: 'admin-0123456789abcdef' };

function folder(t: ExecutionContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-deploy-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

interface Started {
  readonly port: number;
  readonly exit: Promise<number | null>;
  signal(name: NodeJS.Signals): void;
}

/** Runs until it says where it serves. */
async function start(
  t: ExecutionContext,
  command: readonly string[],
  cwd: string,
  env: Record<string, string>,
): Promise<Started> {
  const [file = '', ...args] = command;
  const options = { cwd, env: { ...env, PATH: process.env['PATH'] } };
  const child = spawn(file, args, { ...options, stdio: ['ignore', 'ignore', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  const exit = new Promise<number | null>((resolve) => child.on('exit', resolve));
  const port = await new Promise<number>((resolve, reject) => {
    let text = '';
    child.on('error', reject);
    child.stderr.on('data', (part: Buffer) => {
      text += part.toString();
      const found = /served at https?:\/\/[\d.]+:(\d+)/.exec(text)?.[1];
      if (found !== undefined) resolve(Number(found));
    });
    void exit.then(() => reject(new Error(text)));
  });
  return { port, exit, signal: (name) => void child.kill(name) };
}

/** Asked until it answers 200: the pools take their time. */
async function untilReady(ask: () => Promise<number | undefined>): Promise<void> {
  while ((await ask()) !== 200) await new Promise((resolve) => setTimeout(resolve, 50));
}

/** `Key=value` of a unit, by its last value. */
function unitOf(text: string): ReadonlyMap<string, string> {
  const lines = text.split('\n').filter((line) => /^\w+=/.test(line));
  return new Map(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}

test('the systemd unit stops the server as the server wants to be stopped', (t) => {
  const unit = unitOf(deploy('troupe.service'));
  t.is(
    unit.get('ExecStart'),
    '/usr/bin/node /opt/troupe/node_modules/troupe/dist/src/cli/main.js serve /etc/troupe/troupe.yaml',
  );
  t.is(unit.get('KillMode'), 'mixed');
  t.is(unit.get('SuccessExitStatus'), '143');
});

test('the config of the systemd unit serves at its port and in its runtime directory until SIGTERM', async (t) => {
  t.timeout(240_000);
  const runtime = path.join(folder(t), 'run');
  mkdirSync(runtime, { mode: 0o700 });
  const command = [
    process.execPath,
    path.join(root, 'dist/src/cli/main.js'),
    'serve',
    path.join(root, 'docs/deploy/troupe.yaml'),
  ];
  const env = { ...TOKENS, RUNTIME_DIRECTORY: runtime, MODELS: path.join(root, 'models'), TROUPE_PORT: '0' };
  const { port, exit, signal } = await start(t, command, runtime, env);
  await untilReady(async () => (await send({ port, path: '/v2/health/ready' })).status);
  const at = { socketPath: path.join(runtime, 'serve.sock'), path: '/v2/models/filetype' };
  t.is((await send(at)).status, 401);
  const headers = { authorization: `Bearer ${TOKENS.INFER_TOKEN}` };
  t.is((await send({ ...at, headers })).json.name, 'filetype');
  signal('SIGTERM');
  t.is(await exit, Number(unitOf(deploy('troupe.service')).get('SuccessExitStatus')));
  t.false(existsSync(at.socketPath));
});

test('the linters of others have nothing to say of the files', async (t) => {
  t.timeout(1_200_000); // They may have to be fetched first.
  const { deploy: lint } = (await import(SCRIPT)) as { deploy: () => Promise<Checked> };
  const { lines, missing } = await lint();
  if (missing.length > 0) t.log(`not run: ${missing.join('; ')}`);
  else t.is(lines.length, 4);
  t.pass();
});

type Tree = any; // any: looked into by its path, and a wrong one fails

function manifests(): ReadonlyMap<string, Tree> {
  const documents = parseAllDocuments(deploy('kubernetes.yaml'), { uniqueKeys: true, strict: true });
  const all = (Array.isArray(documents) ? documents : []).map((document) => {
    if (document.errors.length > 0) throw document.errors[0];
    return document.toJS() as Tree;
  });
  return new Map(all.map((tree) => [tree.kind as string, tree]));
}

test('the parts of the Kubernetes manifest agree: labels, names, ports, mounts and the time for the drain', (t) => {
  const all = manifests();
  t.deepEqual([...all.keys()], ['ConfigMap', 'Secret', 'Deployment', 'Service', 'PodDisruptionBudget']);
  const { spec } = all.get('Deployment');
  const pod = spec.template;
  const [container] = pod.spec.containers;
  for (const labels of [
    spec.selector.matchLabels,
    all.get('Service').spec.selector,
    all.get('PodDisruptionBudget').spec.selector.matchLabels,
  ])
    t.deepEqual(labels, pod.metadata.labels);
  const volumes = new Map<string, Tree>(pod.spec.volumes.map((volume: Tree) => [volume.name, volume]));
  for (const { name } of container.volumeMounts) t.true(volumes.has(name), name);
  t.is(volumes.get('config').configMap.name, all.get('ConfigMap').metadata.name);
  t.is(container.envFrom[0].secretRef.name, all.get('Secret').metadata.name);
  t.deepEqual(Object.keys(all.get('Secret').stringData), Object.keys(TOKENS));
  const config = parseAllDocuments(all.get('ConfigMap').data['troupe.yaml'])[0]?.toJS() as Tree;
  const [port] = container.ports;
  t.is(config.serve.port, port.containerPort);
  t.is(all.get('Service').spec.ports[0].targetPort, port.name);
  t.true(config.serve.hosts.includes(all.get('Service').metadata.name));
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'])
    t.is(container[probe].httpGet.port, port.name, probe);
  // preStop, 10 s for each pool, 10 s for answers on their way.
  const pools = Object.keys(config.pools).length;
  t.true(
    pod.spec.terminationGracePeriodSeconds >= Number(container.lifecycle.preStop.exec.command[1]) + 10 * pools + 10,
  );
  t.true(spec.replicas > all.get('PodDisruptionBudget').spec.minAvailable);
  t.true(container.resources.limits.memory !== undefined && container.securityContext.readOnlyRootFilesystem);
});

/** `COPY` and the like, with continued lines put together. */
function containerfile(): readonly { readonly word: string; readonly rest: string }[] {
  const lines = deploy('Containerfile').replaceAll('\\\n', ' ').split('\n');
  return lines
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => ({ word: line.split(' ')[0] ?? '', rest: line.slice(line.indexOf(' ') + 1) }));
}

test('the container holds what its command needs; with the config of the manifest its health check and the probes of the pod find it', async (t) => {
  t.timeout(240_000);
  const dir = folder(t);
  const [app, mounted] = [path.join(dir, 'app'), path.join(dir, 'mounted')];
  const instructions = containerfile();
  const last = instructions.findLastIndex(({ word }) => word === 'FROM');
  const valueOf = (name: string): string => instructions.findLast(({ word }) => word === name)?.rest ?? '';
  let copied = 0;
  for (const [index, { word, rest }] of instructions.entries()) {
    if (word !== 'COPY') continue;
    const words = rest.replace('--from=build ', '').split(' ');
    const to = words.pop() ?? '';
    for (const from of words) {
      const source = path.join(root, from.replace(/^\/build\//, ''));
      t.true(existsSync(source), from);
      copied++;
      if (index < last || from.endsWith('-lock.json')) continue;
      cpSync(source, path.join(app, to, to.endsWith('/') ? path.basename(source) : ''), { recursive: true });
    }
  }
  t.true(copied >= 8);
  symlinkSync(path.join(root, 'node_modules'), path.join(app, 'node_modules'));

  const all = manifests();
  const [container] = all.get('Deployment').spec.template.spec.containers;
  const places = new Map<string, string>([['/app/', `${app}/`]]);
  for (const { mountPath } of container.volumeMounts) places.set(`${mountPath}/`, `${path.join(mounted, mountPath)}/`);
  const inside = new RegExp(`(?<![\\w-])(${[...places.keys()].join('|')})`, 'g');
  const placed = (text: string): string => text.replaceAll(inside, (place) => places.get(place) ?? place);
  for (const { mountPath } of container.volumeMounts) mkdirSync(path.join(mounted, mountPath), { recursive: true });
  const command = (JSON.parse(valueOf('CMD')) as string[]).map(placed);
  const config = all.get('ConfigMap').data['troupe.yaml'] as string;
  writeFileSync(command.at(-1) ?? '', placed(config).replace(/port: \d+/, 'port: 0'));
  const tls = path.join(mounted, '/etc/troupe-tls');
  const words = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=troupe';
  try {
    execFileSync(
      'openssl',
      [...words.split(' '), '-keyout', path.join(tls, 'tls.key'), '-out', path.join(tls, 'tls.crt')],
      { stdio: 'ignore' },
    );
  } catch {
    t.log('not run: there is no openssl to make a certificate with');
    return;
  }

  const env = { ...TOKENS, NODE_ENV: 'production' };
  const { port, exit, signal } = await start(t, [process.execPath, ...command.slice(1)], app, env);
  const ask = (at: string, headers: Record<string, string>, body = ''): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      const options = {
        port,
        host: '127.0.0.1',
        path: at,
        headers,
        rejectUnauthorized: false,
        method: body === '' ? 'GET' : 'POST',
      };
      const sent = request(options, (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode));
      });
      sent.on('error', reject).end(body);
    });
  const probe = (name: string): Promise<number | undefined> => {
    const { path: at, scheme, httpHeaders } = container[name].httpGet;
    t.is(scheme, 'HTTPS');
    return ask(at, Object.fromEntries(httpHeaders.map((header: Tree) => [header.name, header.value])));
  };
  t.is(await probe('startupProbe'), 200);
  t.is(await probe('livenessProbe'), 200);
  await untilReady(() => probe('readinessProbe'));
  t.is(await ask(container.livenessProbe.httpGet.path, { host: '10.1.2.3' }), 403, 'why the probes name a host');

  const check = JSON.parse(valueOf('HEALTHCHECK').replace(/^.*? CMD /, '')) as string[];
  const url = /TROUPE_LIVE=(\S+)/.exec(instructions.map(({ rest }) => rest).join('\n'))?.[1] ?? '';
  const checked = (at: string): number | null =>
    spawnSync(process.execPath, check.slice(1), { env: { TROUPE_LIVE: at } }).status;
  t.is(checked(url.replace(/:\d+\//, `:${port}/`)), 0);
  t.is(checked('https://localhost:9/v2/health/live'), 1);
  t.is(Number(/:(\d+)\//.exec(url)?.[1]), container.ports[0].containerPort);

  signal('SIGTERM');
  t.is(await exit, 143);
  t.deepEqual(JSON.parse(valueOf('ENTRYPOINT')), ['tini', '-e', '143', '--'], 'of 143 the container makes 0');
  t.is(Number(valueOf('USER')), all.get('Deployment').spec.template.spec.securityContext.runAsUser);
  const { peerDependencies } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  t.true(deploy('Containerfile').includes(` onnxruntime-node@${peerDependencies['onnxruntime-node']} `));
});
