import test from 'ava';

/** The part of `npm run interop` that needs nothing but a package. */
const SCRIPT = new URL('../../../scripts/interop/openai.mjs', import.meta.url).href;

interface Called {
  readonly versions: string;
  readonly lines: readonly { readonly what: string; readonly fact: string }[];
}

test('everything that the page says of the openai client holds with the one that is installed', async (t) => {
  t.timeout(240_000);
  const { openai } = (await import(SCRIPT)) as { openai: () => Promise<Called> };
  const { versions, lines } = await openai();
  t.regex(versions, /^Node\.js [\d.]+, openai \d+\.\d+\.\d+$/);
  t.true(lines.length > 20, `${lines.length} calls`);
  t.true(lines.some(({ what }) => what.includes('through the actor openai')));
});
