/**
 * Row I8 of the scorecard, for every test there is: nothing that it did, or that was done to it, may leave a trace on what
 * all objects inherit. ava loads this into the process of each test file, see ava.config.js; a file that leaves a trace
 * fails with what it left.
 */

const GUARDED = { Object, Array, Function, String, Number, Promise, Map, Set, Error } as const;

function traits(): readonly string[] {
  return Object.entries(GUARDED).flatMap(([name, { prototype }]) =>
    Reflect.ownKeys(prototype).map((key) => `${name}.prototype.${String(key)}`),
  );
}

const before = new Set(traits());

process.on('exit', () => {
  const left = traits().filter((trait) => !before.has(trait));
  if (left.length === 0) return;
  process.stderr.write(`a test left ${left.join(', ')} behind\n`);
  process.exitCode = 1;
});
