import { expectation } from './expectation.js';
import type { JsonSchema } from './schema.js';

/**
 * The reference page of the config file, made from the schema: one table per map, in the order of the schema. Only
 * `scripts/docs.mjs` calls this, and a test checks that the page in docs/ is what it returns.
 */
export function configReference(schema: JsonSchema): string {
  const sections: string[] = [];
  const visit = (node: JsonSchema, path: string, title: string): void => {
    const rows: string[] = [];
    const below: (() => void)[] = [];
    for (const [key, child] of Object.entries(node.properties ?? {})) {
      const isRequired = node.required?.includes(key) ?? false;
      rows.push(
        `| \`${key}\` | ${typeCell(child)} | ${defaultCell(child, isRequired)} | ${cell(child.description ?? '')} |`,
      );
      const inner = innerOf(child, `${path}${key}`);
      if (inner !== undefined) below.push(() => visit(inner.node, `${inner.path}.`, inner.path));
    }
    sections.push([`## ${title}`, '', ...HEAD, ...rows].join('\n'));
    for (const next of below) next();
  };
  visit(schema, '', 'Top level');
  return `${sections.join('\n\n')}\n`;
}

const HEAD = ['| key | type | default | meaning |', '|---|---|---|---|'];

/** The map a value holds: itself, the values of a map of names, or the items of a list. */
function innerOf(schema: JsonSchema, path: string): { node: JsonSchema; path: string } | undefined {
  if (schema.properties !== undefined) return { node: schema, path };
  if (schema.items !== undefined) return innerOf(schema.items, `${path}[]`);
  const map = schema.anyOf?.find(({ properties }) => properties !== undefined);
  if (map !== undefined) return { node: map, path };
  if (typeof schema.additionalProperties === 'object' && schema.additionalProperties.properties !== undefined) {
    return { node: schema.additionalProperties, path: `${path}.<name>` };
  }
  return undefined;
}

function typeCell(schema: JsonSchema): string {
  if (schema.items?.properties !== undefined) return 'list of maps';
  if (schema.properties !== undefined) return 'map';
  if (typeof schema.additionalProperties === 'object' && schema.additionalProperties.properties !== undefined) {
    return 'map of names';
  }
  return cell(expectation(schema));
}

function defaultCell(schema: JsonSchema, isRequired: boolean): string {
  if (isRequired) return 'required';
  // The JSON Schema leaves a default out where values are changed on their way in; a map of names is empty without entries.
  if (schema.default === undefined) return typeCell(schema) === 'map of names' ? '`{}`' : 'none';
  return `\`${JSON.stringify(schema.default)}\``;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
}
