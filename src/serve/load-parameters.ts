/**
 * The parameters of a load. `config` is a ModelConfig of Triton as JSON in a string: which version is to serve is taken from
 * it, and what else it says must be so already, for a load changes no option of a pool. Files are never taken.
 */
import { MODEL_CONFIG } from '../models/model-config-fields.js';
import { isVersion } from '../models/names.js';
import { Refusal } from '../stream/http-body.js';
import { invalid, shownName, shownValue } from './oip-invalid.js';
import { parseOipJson } from './oip-json.js';
import { UNSERVED } from './oip-status.js';

const CONFIG = 'config';
const FILE = 'file:';
const POLICY = 'version_policy';

type Json = Readonly<Record<string, unknown>>;

/**
 * The version that is to serve; undefined for the newest. `config`: tells what the model has now, and is asked only where a
 * load says something of it. Rejects with INPUT_INVALID, and with a Refusal for what a load does not do.
 */
export async function versionToLoad(
  parameters: ReadonlyMap<string, unknown>,
  config: () => Promise<unknown>,
): Promise<string | undefined> {
  for (const name of parameters.keys()) {
    if (name.startsWith(FILE)) throw new Refusal(501, UNSERVED.files);
    if (name !== CONFIG) throw invalid(`there is no parameter ${shownName(name)} of a load; there is ${CONFIG}`);
  }
  if (!parameters.has(CONFIG)) return undefined;
  const fields = readConfig(parameters.get(CONFIG));
  const others = [...fields].filter(([name]) => name !== POLICY);
  if (others.length > 0) {
    const now = objectAt(await config(), 'the configuration');
    for (const [name, value] of others) if (!agrees(value, own(now, name))) throw new Refusal(501, changed(name));
  }
  return fields.has(POLICY) ? versionOf(fields.get(POLICY)) : undefined;
}

function changed(name: string): string {
  return `config: ${name} is not as it is now; a load takes ${POLICY} and changes nothing else, see the options of the pool`;
}

/** By the names of the fields; JSON of protobuf may have them in camel case. */
function readConfig(text: unknown): ReadonlyMap<string, unknown> {
  if (typeof text !== 'string') throw invalid(`${CONFIG} must be JSON in a string, got ${shownValue(text)}`);
  let value: unknown;
  try {
    value = parseOipJson(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw invalid(`${CONFIG} is not JSON: ${error.message}`);
  }
  const fields = new Map<string, unknown>();
  for (const [given, field] of Object.entries(objectAt(value, CONFIG))) {
    const name = snake(given);
    if (!Object.hasOwn(MODEL_CONFIG.fields, name))
      throw invalid(`${CONFIG}: there is no field ${shownName(given)} in a model configuration`);
    if (fields.has(name)) throw invalid(`${CONFIG}: ${name} is given twice`);
    fields.set(name, field);
  }
  return fields;
}

/** `{ latest: { num_versions: 1 } }` or `{ specific: { versions: [2] } }`. */
function versionOf(policy: unknown): string | undefined {
  const where = `${CONFIG}.${POLICY}`;
  const choices = Object.entries(objectAt(policy, where));
  const [[name, choice] = ['', undefined], second] = choices;
  if (second !== undefined)
    throw invalid(`${where}: ${shownName(name)} and ${shownName(second[0])} exclude each other`);
  switch (name) {
    case '':
      return undefined;
    case 'latest': {
      const { num_versions: count = 1 } = snakes(objectAt(choice, `${where}.latest`));
      if (String(count) !== '1') throw new Refusal(501, UNSERVED.versions);
      return undefined;
    }
    case 'specific': {
      const { versions } = objectAt(choice, `${where}.specific`);
      if (!Array.isArray(versions) || versions.length === 0)
        throw invalid(`${where}.specific: versions must be an array of one version, got ${shownValue(versions)}`);
      if (versions.length > 1) throw new Refusal(501, UNSERVED.versions);
      const version = String(versions[0]);
      if (isVersion(version)) return version;
      throw invalid(`${where}.specific: a version is a whole number from 1, got ${shownValue(versions[0])}`);
    }
    case 'all':
      throw new Refusal(501, UNSERVED.versions);
    default:
      throw invalid(`${where} must have latest, specific or all, got ${shownName(name)}`);
  }
}

/** Whether what was given says nothing else. Numbers of 64 bits may be texts, and what has its default may be left out. */
function agrees(given: unknown, now: unknown): boolean {
  if (now === undefined) return isDefault(given);
  if (Array.isArray(given))
    return Array.isArray(now) && given.length === now.length && given.every((item, at) => agrees(item, now[at]));
  if (typeof given === 'object' && given !== null)
    return isObject(now) && Object.entries(given).every(([name, value]) => agrees(value, own(now, snake(name))));
  return given === now || (typeof now === 'number' && typeof given === 'string' && given === String(now));
}

function isDefault(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0;
  if (isObject(value)) return Object.values(value).every(isDefault);
  return value === null || value === false || value === 0 || value === '' || value === '0';
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function objectAt(value: unknown, where: string): Json {
  if (isObject(value)) return value;
  throw invalid(`${where} must be an object, got ${shownValue(value)}`);
}

/** Names come from strangers. */
function own(object: unknown, name: string): unknown {
  return isObject(object) && Object.hasOwn(object, name) ? object[name] : undefined;
}

function snakes(object: Json): Json {
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [snake(name), value]));
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
