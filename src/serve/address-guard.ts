/**
 * Which machines may be connected to for an address of a config or a request: the guard against endpoints that lead into
 * networks they were not meant for (SSRF).
 *
 * A1 one parser: the URL that is checked is the one that is used, and its host must be written as that parser prints it, so
 *    that nobody reads another host in it than is connected to (`http://0x7f.1`, `http:\\host`, `http://a@b`).
 * A2 a name is judged by the addresses it resolves to, inside the very lookup that the connection makes: there is no second
 *    one that could answer otherwise.
 * A3 what no rule calls public is refused.
 */
import { lookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { refuse } from '../stream/options.js';

export type AddressKind = 'public' | 'loopback' | 'private' | 'link-local' | 'reserved';

export interface ResolvedAddress {
  readonly address: string;
  readonly family: number;
}

/** The addresses of a name, as the system knows them. */
export type Resolve = (name: string, done: (error: Error | null, found: readonly ResolvedAddress[]) => void) => void;

/** The address is not one that may be connected to. */
export class AddressRefused extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'AddressRefused';
  }
}

/** The first that matches counts. Link-local has the metadata services of clouds, those at other addresses included. */
const RANGES: readonly (readonly [AddressKind, readonly string[]])[] = [
  ['loopback', ['127.0.0.0/8', '::1/128']],
  [
    'link-local',
    [
      '169.254.0.0/16',
      'fe80::/10',
      'fd00:ec2::/32', // Amazon
      'fd20:ce::254/128', // Google
      'fd00:c1::a9fe:a9fe/128', // Oracle
      'fd00:42::42/128', // Scaleway
      '100.100.100.200/32', // Alibaba
      '192.0.0.192/32', // Oracle
      '168.63.129.16/32', // Azure
    ],
  ],
  ['private', ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7']],
  [
    'reserved',
    [
      '0.0.0.0/8',
      '192.0.0.0/24',
      '192.0.2.0/24',
      '192.88.99.0/24',
      '198.18.0.0/15',
      '198.51.100.0/24',
      '203.0.113.0/24',
      '224.0.0.0/3',
      // Within what is public of IPv6: tunnels, which hold an address of IPv4, and documentation.
      '2001::/23',
      '2001:db8::/32',
      '2002::/16',
      '3fff::/20',
    ],
  ],
];

const KINDS = RANGES.map(([kind, ranges]) => [kind, listOf(ranges)] as const);
const MAPPED = listOf(['::ffff:0:0/96']);
/** A3: all of IPv6 that is given out so far. */
const GLOBAL = listOf(['2000::/3']);

/** Of an address as the system or a URL writes it; one of IPv4 in the clothes of IPv6 is what it is of IPv4. */
export function kindOfAddress(given: string): AddressKind {
  const address = withoutZone(given);
  const family = familyOf(address);
  if (family === undefined) return 'reserved';
  for (const [kind, list] of KINDS) if (list.check(address, family)) return kind;
  return family === 'ipv4' || MAPPED.check(address, family) || GLOBAL.check(address, family) ? 'public' : 'reserved';
}

/**
 * An http or https URL without user name and password, its host written as the parser prints it (A1). Throws a TypeError
 * naming `option`.
 */
export function endpointUrl(option: string, value: unknown): URL {
  const expected = 'an http or https URL such as http://127.0.0.1:8000';
  if (typeof value !== 'string') refuse(option, expected, value instanceof URL ? 'a URL; give its text' : value);
  return checkedUrl(option, value, expected);
}

/**
 * As `endpointUrl`, of an address of scheme grpc or grpcs, whose URL has http or https in its place: other schemes are
 * parsed by other rules.
 */
export function grpcUrl(option: string, value: string): URL {
  const url = checkedUrl(option, value.replace(/^grpc(s?):/i, 'http$1:'), 'an address such as grpc://127.0.0.1:8001');
  if (url.pathname === '/' && url.search === '' && url.hash === '') return url;
  throw new TypeError(`${option} must be an address of gRPC, which has no path, such as grpc://127.0.0.1:8001`);
}

function checkedUrl(option: string, value: string, expected: string): URL {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  // What may hold a password is not shown.
  const shown = /[@?]/.test(value) ? 'another string' : value;
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:')) refuse(option, expected, shown);
  if (url.username !== '' || url.password !== '')
    throw new TypeError(`${option} must have no user name and no password; give token or headers`);
  const start = `${url.protocol}//${url.hostname}`;
  const rest = value.slice(start.length);
  if (value.slice(0, start.length).toLowerCase() !== start || !/^(:\d+)?([/?#][\x21-\x5b\x5d-\x7e]*)?$/.test(rest))
    throw new TypeError(
      `${option} must be written in its plain form, ${url.origin}${url.pathname}, got ${show(shown)}`,
    );
  return url;
}

/** What an endpoint may be connected to. */
export class AddressGuard {
  /** Of the endpoint, without brackets. */
  readonly host: string;
  /** For the connections: gives only addresses that may be connected to (A2). */
  readonly lookup: LookupFunction;
  readonly #names: ReadonlySet<string>;
  readonly #ranges: BlockList;
  readonly #isLoopback: boolean;

  /**
   * `allow`: names of hosts, addresses and ranges (`10.0.0.0/8`) that are no public ones and may be connected to all the
   * same. A name allows private and loopback addresses; those of cloud metadata are allowed by their numbers alone. Throws
   * a TypeError for what is none of these.
   */
  constructor(option: string, url: URL, allow: readonly string[], resolve: Resolve = resolveBySystem) {
    this.host = url.hostname.replace(/^\[(.*)\]$/, '$1');
    const names = new Set<string>();
    this.#ranges = new BlockList();
    if (!Array.isArray(allow)) refuse(option, 'an array of host names, addresses and ranges', allow);
    for (const entry of allow) {
      if (typeof entry !== 'string') refuse(option, 'an array of host names, addresses and ranges', entry);
      if (addRange(this.#ranges, entry)) continue;
      if (!/^(?!.*\.\d+$)[a-z\d_]([a-z\d._-]*[a-z\d_.])?$/i.test(entry))
        refuse(option, 'host names, addresses and ranges such as 10.0.0.0/8', entry);
      names.add(entry.toLowerCase());
    }
    this.#names = names;
    this.#isLoopback = this.host === 'localhost' || (isIP(this.host) !== 0 && kindOfAddress(this.host) === 'loopback');
    this.lookup = (name, options, callback) => {
      resolve(name, (error, found) => {
        if (error !== null) return callback(error, []);
        const { family } = options;
        const wanted = family === 6 || family === 'IPv6' ? 6 : family === 4 || family === 'IPv4' ? 4 : 0;
        const good = found.filter((one) => this.allows(one.address) && (wanted === 0 || one.family === wanted));
        const [first] = good;
        if (first === undefined) return callback(this.#refusal(name, found), []);
        return options.all === true ? callback(null, [...good]) : callback(null, first.address, first.family);
      });
    };
  }

  /** Throws AddressRefused where the host is an address that may not be connected to; one is never looked up. */
  check(): void {
    if (isIP(this.host) !== 0 && !this.allows(this.host))
      throw this.#refusal(this.host, [{ address: this.host, family: 0 }]);
  }

  allows(address: string): boolean {
    const plain = withoutZone(address);
    const family = familyOf(plain);
    if (family === undefined) return false;
    if (this.#ranges.check(plain, family)) return true;
    const kind = kindOfAddress(plain);
    if (kind === 'loopback') return this.#isLoopback || this.#isNamed;
    if (kind === 'private') return this.#isNamed;
    // Whoever writes localhost means this machine and no other.
    return kind === 'public' && !(this.#isLoopback && isIP(this.host) === 0);
  }

  get #isNamed(): boolean {
    return this.#names.has(this.host);
  }

  #refusal(name: string, found: readonly ResolvedAddress[]): AddressRefused {
    const first = found.find(({ address }) => !this.allows(address));
    if (first === undefined) return new AddressRefused(`${name} has no address of the kind that was asked for`);
    const kind = kindOfAddress(first.address);
    const where = first.address === name ? name : `${name} is at ${first.address}, which`;
    const fix =
      kind === 'private' || kind === 'loopback'
        ? `if it is meant, say so: allow: [${JSON.stringify(name)}]`
        : `if it is meant, say so: allow: [${JSON.stringify(first.address)}]`;
    return new AddressRefused(`${where} is a ${kind} address and is not connected to; ${fix}`);
  }
}

const resolveBySystem: Resolve = (name, done) =>
  lookup(name, { all: true }, (error, found) => done(error, found ?? []));

function listOf(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) addRange(list, range);
  return list;
}

/** False where it is neither an address nor a range. */
function addRange(list: BlockList, entry: string): boolean {
  const [address = '', prefix, more] = entry.split('/');
  const family = familyOf(address);
  if (family === undefined || more !== undefined) return false;
  const most = family === 'ipv4' ? 32 : 128;
  if (prefix !== undefined && !(/^\d{1,3}$/.test(prefix) && Number(prefix) <= most)) return false;
  list.addSubnet(address, prefix === undefined ? most : Number(prefix), family);
  return true;
}

function familyOf(address: string): 'ipv4' | 'ipv6' | undefined {
  const version = isIP(address);
  return version === 4 ? 'ipv4' : version === 6 ? 'ipv6' : undefined;
}

/** `fe80::1%eth0`. */
function withoutZone(address: string): string {
  return address.replace(/%.*$/, '');
}

function show(value: string): string {
  return JSON.stringify(value.slice(0, 200));
}
