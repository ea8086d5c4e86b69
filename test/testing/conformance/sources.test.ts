import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import test from 'ava';
import { fromFile } from '../../../src/stream/sources/file.js';
import { fromFiles } from '../../../src/stream/sources/files.js';
import { fromHttp } from '../../../src/stream/sources/http.js';
import { fromIterable } from '../../../src/stream/sources/iterable.js';
import { readStream } from '../../../src/stream/sources/stdin.js';
import { Stamped } from '../../../src/stream/envelope.js';
import type { Source } from '../../../src/stream/source.js';
import { checkSource } from '../../../src/testing/index.js';
import { listen } from '../../stream/http-stand.js';
import { folder } from '../../stream/folder.js';
import { fromSse } from '../../../src/stream/sources/sse.js';
import { HttpClientStand } from './http-client-stand.js';
import { EventServer } from './sse-stands.js';
import { conforms } from './conforms.js';

const lines = (records: readonly unknown[]): string => records.map((record) => `${JSON.stringify(record)}\n`).join('');

test('fromFile conforms', async (t) => {
  let count = 0;
  const path = await folder(t);
  const report = await checkSource('fromFile', {
    stand: async (records, { bad = false } = {}) => {
      const file = join(path, `${(count += 1)}.ndjson`);
      await writeFile(file, `${lines(records)}${bad ? '{oops\n' : ''}`);
      return { source: fromFile(file), ends: true };
    },
    unreachable: () => fromFile(join(path, 'missing.ndjson')),
  });
  conforms(t, report, 6);
});

test('fromFiles conforms', async (t) => {
  let count = 0;
  const path = await folder(t);
  const report = await checkSource('fromFiles', {
    stand: async (records) => {
      const root = join(path, `${(count += 1)}`);
      const names = records.map((_, index) => `${String(index).padStart(5, '0')}.json`);
      await folderOf(root, Object.fromEntries(names.map((name, index) => [name, JSON.stringify(records[index])])));
      return { source: parsed(fromFiles(root)), ends: true };
    },
    hasBadRecords: false,
    unreachable: () => fromFiles(join(path, 'missing')),
  });
  conforms(t, report, 5);
});

async function folderOf(root: string, files: Record<string, string>): Promise<void> {
  await mkdir(root, { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(root, name), text);
}

/** The content of each file, so that records can be compared. */
function parsed(source: Source<{ bytes: Uint8Array }>): Source<unknown> {
  return {
    name: source.name,
    open: async (from) => {
      const reader = await source.open(from);
      return {
        position: () => reader.position?.(),
        read: async (max) => {
          const read = await reader.read(max);
          return read?.map(
            (item) => JSON.parse(Buffer.from((item as { bytes: Uint8Array }).bytes).toString()) as unknown,
          );
        },
        close: () => reader.close(),
      };
    },
  };
}

test('fromIterable conforms, over arrays and over async iterables', async (t) => {
  conforms(
    t,
    await checkSource('an array', {
      stand: async (records) => ({ source: fromIterable([...records]), ends: true }),
      hasBadRecords: false,
    }),
    4,
  );
  conforms(
    t,
    await checkSource('an async iterable', {
      stand: async (records) => ({ source: fromIterable(asyncOf(records)), ends: true }),
      hasBadRecords: false,
    }),
    3,
  );
});

function asyncOf(records: readonly unknown[]): AsyncIterable<unknown> {
  return {
    async *[Symbol.asyncIterator]() {
      for (const record of records) yield record;
    },
  };
}

test('standard input conforms', async (t) => {
  const report = await checkSource('fromStdin', {
    stand: async (records, { bad = false } = {}) => {
      const input = new PassThrough();
      input.write(`${lines(records)}${bad ? '{oops\n' : ''}`);
      return {
        source: { name: 'stdin', open: () => readStream('stdin', input, 'ndjson', 1_000_000) },
        ends: false,
        add: async (more) => {
          input.write(lines(more));
        },
      };
    },
  });
  conforms(t, report, 5);
});

test('fromHttp conforms, with a client that posts again what was not answered well', async (t) => {
  const { url } = await listen(t);
  for (const acknowledge of ['result', 'checkpoint'] as const) {
    const report = await checkSource(`fromHttp, ${acknowledge}`, {
      stand: (records, { bad = false } = {}) => HttpClientStand.start(records, bad, { acknowledge }),
      unreachable: () => fromHttp({ port: Number(new URL(url).port) }),
      readAheadMax: 4096,
    });
    conforms(t, report, 10);
  }
});

test('fromSse conforms, with ids on every event and with ids on some', async (t) => {
  const { url } = await listen(t);
  for (const idEvery of [1, 4]) {
    const report = await checkSource(`fromSse, an id every ${idEvery}`, {
      stand: (records, { bad = false } = {}) => EventServer.start(records, bad, { idEvery }),
      unreachable: () => fromSse(url),
    });
    // With ids on some, the records before the first id have no position to go on from.
    if (idEvery === 1) conforms(t, report, 8);
    else {
      const failed = report.checks.filter(({ outcome }) => outcome === 'failed');
      t.deepEqual(
        failed.map(({ title }) => title),
        ['from every position it goes on with exactly the records that came after it'],
      );
      t.regex(failed[0]?.reason ?? '', /its events have no ids/);
    }
  }
});

test('the kit sees an acknowledging source whose records have no token, the same one, or one that is no JSON', async (t) => {
  const reasonWith = async (tokenOf: (index: number) => unknown): Promise<string | undefined> => {
    const report = await checkSource('tokens', {
      stand: async (records) => ({
        ends: true,
        source: {
          name: 'tokens',
          open: () => {
            let left = records.map((value, index) => new Stamped(value, { token: tokenOf(index) }));
            return {
              read: (max: number) => {
                const given = left.slice(0, max);
                left = left.slice(max);
                return given.length === 0 ? undefined : given;
              },
              acknowledge: () => undefined,
              close: () => undefined,
            };
          },
        },
      }),
      unreachable: () => fromIterable([]),
    });
    return report.checks.find(({ title }) => title.startsWith('every record has a token'))?.reason;
  };
  t.is(await reasonWith((index) => index), undefined);
  t.regex((await reasonWith((index) => (index === 3 ? undefined : index))) ?? '', /^record 4 has none/);
  t.regex((await reasonWith(() => () => 0)) ?? '', /no JSON/);
  t.regex((await reasonWith((index) => index >> 1)) ?? '', /^different tokens: expected 25, got 13/);
});

test('the kit sees what is wrong with a source', async (t) => {
  const report = await checkSource('wrong in every way', {
    stand: async (records) => ({
      ends: true,
      source: {
        name: '',
        open: () => {
          let next = 0;
          return {
            position: () => 0,
            read: (max: number) => {
              next += 1;
              if (next > 3) return next > 5 ? [] : undefined;
              return next === 2 ? [] : records.slice(0, max + 1);
            },
            close: () => undefined,
          };
        },
      },
    }),
    unreachable: () => fromIterable([]),
  });
  t.false(report.passed);
  const failed = report.checks.filter(({ outcome }) => outcome === 'failed').map(({ title }) => title);
  t.true(failed.length >= 5, failed.join('\n'));
});
