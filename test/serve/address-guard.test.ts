import test from 'ava';
import {
  AddressGuard,
  AddressRefused,
  endpointUrl,
  kindOfAddress,
  type ResolvedAddress,
} from '../../src/serve/address-guard.js';

/** A guard whose names resolve to what the test says. */
function guard(url: string, allow: readonly string[] = [], found: readonly string[] = []): AddressGuard {
  return new AddressGuard('allow', endpointUrl('endpoint', url), allow, (_name, done) => {
    done(
      null,
      found.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
  });
}

/** What a connection to a name would be given: addresses, or the words of the refusal. */
function lookedUp(of: AddressGuard, options: object = { all: true }): readonly string[] | string {
  let answer: readonly string[] | string = 'no answer';
  of.lookup(of.host, options, (error, found) => {
    if (error !== null) answer = error.message;
    else if (typeof found === 'string') answer = [found];
    else answer = (found as readonly ResolvedAddress[]).map(({ address }) => address);
  });
  return answer;
}

const KINDS: readonly (readonly [string, ...string[]])[] = [
  ['public', '8.8.8.8', '1.1.1.1', '172.15.0.1', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '::ffff:8.8.8.8'],
  ['loopback', '127.0.0.1', '127.255.0.9', '::1', '::ffff:127.0.0.1', '::ffff:7f00:1'],
  ['private', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '100.64.0.1', 'fc00::1', 'fdab::1'],
  ['private', '::ffff:10.0.0.1', '::ffff:c0a8:101'],
  ['link-local', '169.254.169.254', '::ffff:169.254.169.254', '::ffff:a9fe:a9fe', 'fe80::1', 'fe80::1%eth0'],
  ['link-local', 'fd20:ce::254', 'fd00:c1::a9fe:a9fe', 'fd00:42::42'],
  ['private', 'fd20:ce::253', 'fd00:c1::1', 'fd00:42::43'],
  ['link-local', 'fd00:ec2::254', '100.100.100.200', '168.63.129.16', '192.0.0.192'],
  ['reserved', '0.0.0.0', '0.1.2.3', '224.0.0.1', '255.255.255.255', '240.0.0.1', '198.18.0.1', '192.0.2.1'],
  ['reserved', '::', 'ff02::1', '2001:db8::1', '2002:7f00:1::', '64:ff9b::a00:1', '::10.0.0.1', 'fec0::1', '2001::1'],
  ['reserved', 'example.com', '', '2130706433', '0x7f.1', '127.1'],
];

for (const [kind, ...addresses] of KINDS)
  test(`an address is ${kind}: ${addresses.join(' ')}`, (t) => {
    for (const address of addresses) t.is(kindOfAddress(address), kind as never, address);
  });

test('a host that is an address is connected to where it is public, or loopback', (t) => {
  for (const url of ['http://8.8.8.8:8000', 'http://127.0.0.1:8000', 'http://[::1]/', 'https://[2606:4700::1111]'])
    t.notThrows(() => guard(url).check(), url);
  const refused = [
    'http://10.0.0.5:8000',
    'http://192.168.0.1',
    'http://169.254.169.254/latest/meta-data',
    'http://[::ffff:a00:5]',
    'http://[::ffff:a9fe:a9fe]',
    'http://[fe80::1]',
    'http://[fd00:ec2::254]',
    'http://[fd20:ce::254]',
    'http://0.0.0.0:8000',
    'http://[::]',
    'http://255.255.255.255',
    'http://[64:ff9b::a9fe:a9fe]',
  ];
  for (const url of refused) t.throws(() => guard(url).check(), { instanceOf: AddressRefused }, url);
  t.throws(() => guard('http://10.0.0.5').check(), {
    message: '10.0.0.5 is a private address and is not connected to; if it is meant, say so: allow: ["10.0.0.5"]',
  });
});

test('allow names what may be connected to all the same: addresses, ranges and hosts', (t) => {
  t.notThrows(() => guard('http://10.0.0.5', ['10.0.0.5']).check());
  t.notThrows(() => guard('http://10.0.0.5', ['10.0.0.0/8']).check());
  t.notThrows(() => guard('http://[::ffff:a00:5]', ['10.0.0.0/8']).check());
  t.notThrows(() => guard('http://[fd12::1]', ['fd00::/8']).check());
  t.notThrows(() => guard('http://169.254.169.254', ['169.254.169.254']).check());
  t.throws(() => guard('http://10.0.0.5', ['10.0.0.6', '192.168.0.0/16', 'fd00::/8']).check());
  t.deepEqual(lookedUp(guard('http://triton.models', ['triton.models'], ['10.1.2.3'])), ['10.1.2.3']);
  t.deepEqual(lookedUp(guard('http://triton.models', ['TRITON.models'], ['127.0.0.1'])), ['127.0.0.1']);
  t.deepEqual(lookedUp(guard('http://triton.models', ['10.0.0.0/8'], ['10.1.2.3'])), ['10.1.2.3']);
  // Another name is not allowed with it, nor are the metadata of clouds by any name.
  t.regex(String(lookedUp(guard('http://triton.models', ['other'], ['10.1.2.3']))), /private address/);
  for (const address of ['169.254.169.254', 'fd20:ce::254', 'fd00:c1::a9fe:a9fe', 'fd00:42::42'])
    t.regex(String(lookedUp(guard('http://triton.models', ['triton.models'], [address]))), /link-local address/);
});

test('a name is judged by each address it resolves to, in the lookup of the connection itself', (t) => {
  t.deepEqual(lookedUp(guard('http://good.example', [], ['8.8.8.8', '2606:4700::1111'])), [
    '8.8.8.8',
    '2606:4700::1111',
  ]);
  for (const address of ['127.0.0.1', '10.0.0.1', '169.254.169.254', '::1', '::ffff:10.0.0.1', 'fe80::1%2', '0.0.0.0'])
    t.regex(String(lookedUp(guard('http://bad.example', [], [address]))), /^bad\.example is at .* is not connected to/);
  // Of several, those that may be.
  t.deepEqual(lookedUp(guard('http://mixed.example', [], ['10.0.0.1', '8.8.8.8'])), ['8.8.8.8']);
  t.deepEqual(lookedUp(guard('http://mixed.example', [], ['10.0.0.1', '8.8.8.8']), { family: 4 }), ['8.8.8.8']);
  t.regex(String(lookedUp(guard('http://mixed.example', [], ['8.8.8.8']), { family: 6 })), /no address of the kind/);
  t.regex(String(lookedUp(guard('http://none.example', [], []))), /no address/);
});

test('localhost is this machine and no other, and nobody else is', (t) => {
  t.deepEqual(lookedUp(guard('http://localhost:8000', [], ['127.0.0.1', '::1'])), ['127.0.0.1', '::1']);
  t.regex(String(lookedUp(guard('http://localhost:8000', [], ['8.8.8.8']))), /not connected to/);
  t.regex(String(lookedUp(guard('http://localhost.:8000', [], ['127.0.0.1']))), /loopback address/);
  t.regex(String(lookedUp(guard('http://localhost.evil.example', [], ['127.0.0.1']))), /loopback address/);
});

test('an endpoint is an http or https URL as its parser prints it, without user name', (t) => {
  for (const url of [
    'http://127.0.0.1:8000',
    'http://127.0.0.1:80/',
    'https://models.example/base/?v=1',
    'HTTP://Models.Example/',
    'http://[::1]:8000/',
    'https://api.example/run/@cf/model',
  ])
    t.is(endpointUrl('endpoint', url).protocol, url.slice(0, url.indexOf(':') + 1).toLowerCase());
  const refused = [
    'file:///etc/passwd',
    'ftp://models.example',
    'gopher://127.0.0.1:8000',
    'unix:///run/a.sock',
    'javascript:alert(1)',
    'models.example:8000',
    '//models.example',
    'http:models.example',
    'http:/models.example',
    'http://',
    '',
    // Other ways to write an address.
    'http://2130706433',
    'http://0x7f000001',
    'http://0177.0.0.1',
    'http://127.1',
    'http://0',
    'http://[0:0:0:0:0:0:0:1]',
    'http://[::ffff:127.0.0.1]',
    'http://１２７.0.0.1',
    // Parsers do not agree about these.
    'http:\\\\models.example',
    'http://models.example\\@evil.example',
    'http://models.example\\.evil.example',
    'http://models.example:80\\@evil.example',
    'http://evil.example#@models.example\\',
    'http://user@models.example',
    'http://user:secret@models.example',
    'http://@models.example',
    ' http://models.example',
    'http://models.example ',
    'http://mod\tels.example',
    'http://models.example\n',
    'http://models.example/a b',
    'http://mödels.example',
  ];
  for (const url of refused) t.throws(() => endpointUrl('endpoint', url), { instanceOf: TypeError }, url);
  for (const value of [undefined, null, 7, {}, new URL('http://127.0.0.1')])
    t.throws(() => endpointUrl('endpoint', value), { instanceOf: TypeError });
  const error = t.throws(() => endpointUrl('endpoint', 'http://user:secret@models.example'));
  t.false(error.message.includes('secret'));
});

test('allow takes names, addresses and ranges, and nothing that looks like one', (t) => {
  for (const entry of [
    '10.0.0.0/33',
    '10.0.0.1/8/9',
    '10.0.0',
    '10.0.0.256',
    'fe80::/129',
    '*',
    'a b',
    '',
    'http://a',
    7,
  ])
    t.throws(() => guard('http://a.example', [entry as string]), { instanceOf: TypeError }, String(entry));
  t.throws(() => guard('http://a.example', 'a.example' as never), { instanceOf: TypeError });
});
