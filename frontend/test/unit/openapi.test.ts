import { fileURLToPath } from 'node:url';
import { Validator } from '@seriousme/openapi-schema-validator';
import ts from 'typescript';
import { beforeAll, describe, expect, test } from 'vitest';
import { EVENT_NAMES, toStreamEvent } from '../../src/protocol.js';

/** As much of a schema of docs/openapi.yaml as is looked at here. */
interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly format?: string;
  readonly const?: string;
  readonly enum?: readonly string[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly contentSchema?: Schema;
  readonly items?: Schema;
}

interface OpenApi {
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

const FILE = fileURLToPath(new URL('../../../docs/openapi.yaml', import.meta.url));

const validator = new Validator();
let valid: unknown;
let api: OpenApi;

beforeAll(async () => {
  valid = await validator.validate(FILE);
  api = validator.specification as unknown as OpenApi;
});

function schema(name: string): Schema {
  const found = api.components.schemas[name];
  if (found === undefined) throw new Error(`docs/openapi.yaml has no schema ${name}`);
  return found;
}

function resolve(given: Schema): Schema {
  return given.$ref === undefined ? given : schema(given.$ref.split('/').pop() ?? '');
}

/** The events of the stream that have a fixed name, with the schema of their data. */
function events(): [name: string, data: Schema][] {
  return (schema('StreamEvent').oneOf ?? []).flatMap((reference) => {
    const { event, data } = resolve(reference).properties ?? {};
    return event?.const && data?.contentSchema ? [[event.const, data.contentSchema]] : [];
  });
}

test('docs/openapi.yaml is an OpenAPI 3.2 document by the published schema, and a wrong one is not', async () => {
  expect(valid).toEqual({ valid: true });
  expect(validator.version).toBe('3.2');
  const wrong = { ...structuredClone(validator.specification), paths: [] };
  expect((await new Validator().validate(wrong)).valid).toBe(false);
});

test('the client listens for the events that are described, and for no other', () => {
  expect(events().map(([name]) => name)).toEqual(EVENT_NAMES);
});

describe('the type of a row', () => {
  const types = (row: string) =>
    errors(`
      import type { NotificationRow } from '../../src/notification.js';
      type Documented = ${row};
      export const fromDocs = (row: Documented): NotificationRow => row;
      export const toDocs = (row: NotificationRow): Documented => row;
      type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
      export const fields: Same<keyof Documented, keyof NotificationRow> = true;
    `);

  test('is the one that is described', () => {
    expect(types(typeOf(schema('Notification')))).toEqual([]);
  });

  test('is not that of a row with another field, or with a field of another type', () => {
    const row = typeOf(schema('Notification'));
    expect(types(row.replace('{', '{ readonly other: string;'))).not.toEqual([]);
    expect(types(row.replace('readonly title', 'readonly headline'))).not.toEqual([]);
    expect(types(row.replace('readonly id: string', 'readonly id: number'))).not.toEqual([]);
  });
});

test('what is described of an event is what the client reads of it', () => {
  const read = Object.fromEntries(
    events().map(([name, data]) => [
      name,
      toStreamEvent({ name, data: JSON.stringify(sample(data)), id: 'x' }),
    ]),
  );
  const row = sample(schema('Notification'));
  const id = 'text';
  expect(read).toEqual({
    connected: {
      name: 'connected',
      lifetime: 0,
      at: Date.parse(TIME),
      user: id,
      heartbeat: 1_000,
    },
    notification: { name: 'notification', row },
    updated: { name: 'changed', id, row },
    deleted: { name: 'changed', id, row: null },
    heartbeat: { name: 'heartbeat' },
    resync: { name: 'resync', reason: 'malformed_cursor' },
    closing: { name: 'closing', reason: 'shutdown' },
  });
});

const TIME = '2026-11-29T12:00:00.000Z';

/** A value as the schema describes it. */
function sample(given: Schema): unknown {
  const { type, format, anyOf, properties, items, ...rest } = resolve(given);
  if (rest.const !== undefined) return rest.const;
  if (rest.enum !== undefined) return rest.enum[0];
  if (anyOf?.[0] !== undefined) return sample(anyOf[0]);
  switch (typeof type === 'string' ? type : type?.[0]) {
    case 'object':
      return Object.fromEntries(
        Object.entries(properties ?? {}).map(([name, property]) => [name, sample(property)]),
      );
    case 'array':
      return items === undefined ? [] : [sample(items)];
    case 'integer':
    case 'number':
      return 1;
    case 'boolean':
      return true;
    case 'string':
      return format === 'date-time' ? TIME : 'text';
    default:
      return null;
  }
}

/** The type that the schema describes, as TypeScript writes it. */
function typeOf(given: Schema): string {
  const { type, anyOf, properties, items, ...rest } = resolve(given);
  if (rest.const !== undefined) return JSON.stringify(rest.const);
  if (rest.enum !== undefined) return rest.enum.map((value) => JSON.stringify(value)).join(' | ');
  if (anyOf !== undefined) return anyOf.map(typeOf).join(' | ');
  const names = typeof type === 'string' ? [type] : type;
  if (names === undefined) return 'unknown';
  return names
    .map((name) => {
      if (name === 'integer') return 'number';
      if (name === 'array') return `readonly ${items === undefined ? 'unknown' : typeOf(items)}[]`;
      if (name !== 'object') return name;
      const fields = Object.entries(properties ?? {});
      return `{ ${fields.map(([field, property]) => `readonly ${field}: ${typeOf(property)};`).join(' ')} }`;
    })
    .join(' | ');
}

/** What the compiler says of a source that stands in this folder. */
function errors(source: string): string[] {
  const file = fileURLToPath(new URL('documented.ts', import.meta.url));
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.es5.d.ts'],
    skipLibCheck: true,
    types: [],
  };
  const disk = ts.createCompilerHost(options);
  const host: ts.CompilerHost = {
    ...disk,
    fileExists: (name) => name === file || disk.fileExists(name),
    readFile: (name) => (name === file ? source : disk.readFile(name)),
    getSourceFile: (name, ...rest) =>
      name === file
        ? ts.createSourceFile(name, source, ts.ScriptTarget.ES2022)
        : disk.getSourceFile(name, ...rest),
  };
  const program = ts.createProgram([file], options, host);
  return ts
    .getPreEmitDiagnostics(program)
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}
