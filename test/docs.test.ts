import { execFile, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import ts from 'typescript';
import { parseConfig } from '../src/config/load.js';
import { ERROR_CODES } from '../src/kernel/errors.js';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../', import.meta.url));
/** Inside the package, so that the examples import it by its own name. */
const scratch = path.join(root, 'dist/docs-examples');

const pages = [
  'README.md',
  ...readdirSync(path.join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];
const textOf = (page: string): string => readFileSync(path.join(root, page), 'utf8');

interface Block {
  readonly name: string;
  readonly language: string;
  readonly code: string;
  readonly isRun: boolean;
}

const blocks: readonly Block[] = pages.flatMap((page) =>
  [...textOf(page).matchAll(/(<!-- run -->\s*)?^```(\w+)\n([\s\S]*?)^```/gm)].map((match, index) => ({
    name: `${page.replace(/\W/g, '-')}-${index}`,
    language: match[2] ?? '',
    code: match[3] ?? '',
    isRun: match[1] !== undefined,
  })),
);

test.before(() => {
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(scratch, { recursive: true });
  // A js block whose first line is `// name.js` is a file that the other blocks name.
  for (const { language, code } of blocks) {
    const file = language === 'js' ? /^\/\/ ([\w-]+\.js)\n/.exec(code)?.[1] : undefined;
    if (file !== undefined) writeFileSync(path.join(scratch, file), code);
  }
});

test('the pages and tables made from code are up to date', (t) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/docs.mjs', '--check'], {
    cwd: root,
    encoding: 'utf8',
  });
  t.is(status, 0, `${stdout}${stderr}`);
});

test('every test that the guarantees name is there, by its file and its title', (t) => {
  const text = textOf('docs/guarantees.md');
  const missing: string[] = [];
  let titles = 0;
  for (const [, file = '', quoted = ''] of text.matchAll(/`(test\/[\w/-]+\.test\.ts)`((?:,? "[^"]+")*)/g)) {
    if (!existsSync(path.join(root, file))) {
      missing.push(file);
      continue;
    }
    const source = textOf(file);
    for (const [, title = ''] of quoted.matchAll(/"([^"]+)"/g)) {
      titles++;
      if (!source.includes(title)) missing.push(`${file}: ${title}`);
    }
  }
  t.deepEqual(missing, []);
  t.true(titles > 10);
});

test('every error code is used in code, and every code that code or docs name is in the table', (t) => {
  const codes = new Set(Object.keys(ERROR_CODES));
  const sources = ['src', 'actors'].flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && name !== path.join('kernel', 'errors.ts'))
      .map((name) => readFileSync(path.join(root, folder, name), 'utf8')),
  );
  t.true(sources.length > 50);
  const all = sources.join('\n');
  t.deepEqual(
    [...codes].filter((code) => !all.includes(`'${code}'`)),
    [],
    'codes nobody uses',
  );
  const thrown = [...all.matchAll(/new TroupeError\(\s*'(\w+)'/g)].map((match) => match[1] ?? '');
  t.true(thrown.length > 20);
  t.deepEqual(
    thrown.filter((code) => !codes.has(code)),
    [],
    'codes without a row',
  );
  const inDrawing = textOf('docs/way-of-a-record.md').match(/\b[A-Z]{2,}_[A-Z_]+\b/g) ?? [];
  t.true(inDrawing.length > 5);
  t.deepEqual(
    inDrawing.filter((code) => !codes.has(code)),
    [],
    'codes in the drawing without a row',
  );
});

test('every link inside the repository leads somewhere', (t) => {
  let count = 0;
  for (const page of pages) {
    for (const [, target = ''] of textOf(page)
      .replace(/^```[\s\S]*?^```/gm, '')
      .matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      count += 1;
      const [file = '', anchor] = target.split('#');
      const there = file === '' ? page : path.posix.join(path.posix.dirname(page), file);
      t.true(existsSync(path.join(root, there)), `${page}: ${target}`);
      if (anchor !== undefined && there.endsWith('.md')) t.true(anchorsOf(there).has(anchor), `${page}: ${target}`);
    }
  }
  t.true(count >= 5);
});

function anchorsOf(page: string): ReadonlySet<string> {
  const headings = [...textOf(page).matchAll(/^#+ (.*)$/gm)].map((match) => (match[1] ?? '').toLowerCase());
  return new Set(headings.map((heading) => heading.replace(/[^\w\- ]/g, '').replaceAll(' ', '-')));
}

test('every part of the benchmark has its table on the page, and what the tables show as not met is explained there', (t) => {
  const page = textOf('docs/benchmarks.md');
  const [, list = ''] = /PARTS: [^{]*\{(.*?)\n\};/s.exec(textOf('bench/main.ts')) ?? [];
  const parts = [...list.matchAll(/^ {2}(\w+):/gm)].map(([, name]) => name as string);
  t.true(parts.includes('ask') && parts.length > 10);
  const [tables = '', reasons = ''] = page.split('## What is not reached, and why');
  for (const part of parts) {
    const [, table] = new RegExp(`<!-- rows of ${part} -->(.*)<!-- end of ${part} -->`, 's').exec(tables) ?? [];
    t.regex(table ?? '', /\| what .*\n\|[ |-]+\|\n\| \w/, `${part}: npm run bench -- ${part} --page`);
    const [title = ''] =
      [...tables.slice(0, tables.indexOf(`<!-- rows of ${part} -->`)).matchAll(/^## (.*)$/gm)].at(-1) ?? [];
    if (table?.includes('NOT MET')) t.true(reasons.includes(`<!-- ${part} -->`), `${title}: no reason for ${part}`);
  }
});

test('every file the way of a record names exists', (t) => {
  const files = textOf('docs/way-of-a-record.md').match(/\bsrc\/[\w/-]+\.ts\b/g) ?? [];
  t.true(files.length >= 6);
  t.deepEqual(
    files.filter((file) => !existsSync(path.join(root, file))),
    [],
  );
});

test('every ts block of README and docs compiles against the package by its name', (t) => {
  const examples = blocks.filter(({ language }) => language === 'ts');
  t.true(examples.length >= 2);
  const files = examples.map(({ name, code }) => {
    const file = path.join(scratch, `${name}.ts`);
    writeFileSync(file, `${code}\nexport {};\n`);
    return file;
  });
  const { options } = ts.parseJsonConfigFileContent(
    ts.readConfigFile(path.join(root, 'tsconfig.json'), ts.sys.readFile).config,
    ts.sys,
    root,
  );
  const { incremental, tsBuildInfoFile, ...rest } = options;
  t.true(incremental === true && tsBuildInfoFile !== undefined);
  const program = ts.createProgram(files, {
    ...rest,
    noEmit: true,
    declaration: false,
    noUnusedLocals: false,
    allowJs: true,
    checkJs: false,
  });
  const found = ts.getPreEmitDiagnostics(program).map(({ file, start = 0, messageText }) => {
    const line = file === undefined ? 0 : file.getLineAndCharacterOfPosition(start).line + 1;
    return `${path.basename(file?.fileName ?? '')}:${line} ${ts.flattenDiagnosticMessageText(messageText, ' ')}`;
  });
  t.deepEqual(found, []);
});

test('every block marked to be run runs', async (t) => {
  t.timeout(600_000); // A process for each.
  const examples = blocks.filter(({ isRun }) => isRun);
  for (const { name, code } of examples) {
    const file = path.join(scratch, `${name}.mjs`);
    writeFileSync(
      file,
      ts.transpileModule(code, { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext } })
        .outputText,
    );
    await t.notThrowsAsync(run(process.execPath, [file], { cwd: scratch, timeout: 60_000 }), name);
  }
  t.log(`${examples.length} blocks ran`);
  t.true(examples.length <= blocks.length);
});

function configsOf(folder: string): string[] {
  const names = readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' });
  return names.filter((name) => name.endsWith('.yaml')).map((name) => path.join(folder, name));
}

test('the README fits in 150 lines', (t) => {
  t.true(textOf('README.md').trimEnd().split('\n').length <= 150);
});

test('every yaml block that is a config passes the loader', (t) => {
  const configs = blocks.filter(({ language, code }) => language === 'yaml' && /^(pools|pipelines):/m.test(code));
  t.true(configs.length >= 1);
  for (const { name, code } of configs) {
    const quoted = configsOf('examples').find((at) => textOf(at).endsWith(code));
    const file = path.join(quoted === undefined ? scratch : path.dirname(path.join(root, quoted)), `${name}.yaml`);
    t.notThrows(() => parseConfig(code, { file, env: {} }), name);
  }
});
