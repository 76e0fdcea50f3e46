import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MAX_EVENT_LENGTH, type SseEvent, createSseParser } from '../../src/sse.js';

interface Read {
  events: SseEvent[];
  retries: number[];
}

function parse(chunks: readonly (string | Uint8Array)[]): Read {
  const read: Read = { events: [], retries: [] };
  const feed = createSseParser({
    event: (event) => read.events.push(event),
    retry: (milliseconds) => read.retries.push(milliseconds),
  });
  for (const chunk of chunks) {
    feed(typeof chunk === 'string' ? new TextEncoder().encode(chunk) : chunk);
  }
  return read;
}

/**
 * The standard's algorithm once more, on the whole text, as it is written there:
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
function reference(bytes: Uint8Array): Read {
  const read: Read = { events: [], retries: [] };
  const text = new TextDecoder().decode(bytes);
  let data = '';
  let type = '';
  let lastEventId = '';
  for (const line of text.split(/\r\n|\n|\r/).slice(0, -1)) {
    if (line === '') {
      if (data === '') {
        type = '';
        continue;
      }
      if (data.endsWith('\n')) data = data.slice(0, -1);
      read.events.push({ name: type === '' ? 'message' : type, data, id: lastEventId });
      data = '';
      type = '';
      continue;
    }
    if (line.startsWith(':')) continue;
    const [, field = line, value = ''] = /^([^:]*): ?([^]*)$/.exec(line) ?? [];
    if (field === 'event') type = value;
    if (field === 'data') data += `${value}\n`;
    if (field === 'id' && !value.includes('\0')) lastEventId = value;
    if (field === 'retry' && /^[0-9]+$/.test(value)) read.retries.push(Number.parseInt(value, 10));
  }
  return read;
}

test.each<[string, string, SseEvent[]]>([
  ['an event', 'event: a\ndata: 1\nid: 7\n\n', [{ name: 'a', data: '1', id: '7' }]],
  ['one without a name', 'data: 1\n\n', [{ name: 'message', data: '1', id: '' }]],
  [
    'several lines of data',
    'data: 1\ndata:2\ndata\n\n',
    [{ name: 'message', data: '1\n2\n', id: '' }],
  ],
  ['empty data', 'data\n\n', [{ name: 'message', data: '', id: '' }]],
  ['only one space is taken away', 'data:  1\n\n', [{ name: 'message', data: ' 1', id: '' }]],
  ['a comment', ': 1\n\n', []],
  ['a name without data', 'event: a\n\ndata: 1\n\n', [{ name: 'message', data: '1', id: '' }]],
  ['an event that never ends', 'data: 1\n', []],
  ['an id that stays', 'id: 1\n\ndata: 2\n\n', [{ name: 'message', data: '2', id: '1' }]],
  ['an id that is taken back', 'id: 1\nid\ndata: 2\n\n', [{ name: 'message', data: '2', id: '' }]],
  ['an id with a NUL', 'id: 1\nid: a\0b\ndata: 2\n\n', [{ name: 'message', data: '2', id: '1' }]],
  ['a byte order mark', '\uFEFFdata: 1\n\n', [{ name: 'message', data: '1', id: '' }]],
  ['only one of them', '\uFEFF\uFEFFdata: 1\n\n', []],
  ['a field nobody knows', 'date: 1\ndata: 2\n\n', [{ name: 'message', data: '2', id: '' }]],
  ['a colon in the value', 'data: a:b\n\n', [{ name: 'message', data: 'a:b', id: '' }]],
  ['CR', 'data: 1\rdata: 2\r\r', [{ name: 'message', data: '1\n2', id: '' }]],
  ['CRLF', 'data: 1\r\ndata: 2\r\n\r\n', [{ name: 'message', data: '1\n2', id: '' }]],
])('reads %s as the standard says', (_, text, events) => {
  expect(parse([text]).events).toEqual(events);
  expect(parse(Array.from(text)).events).toEqual(events);
  expect(reference(new TextEncoder().encode(text)).events).toEqual(events);
});

test('takes digits for retry: and nothing else', () => {
  expect(
    parse(['retry: 10\nretry: -1\nretry: 1.5\nretry\nretry: 1e3\nretry:20\n']).retries,
  ).toEqual([10, 20]);
});

test('reads the same however the bytes are cut, and what the standard says', () => {
  const piece = fc.constantFrom(
    ...[
      'data',
      'event',
      'id',
      'retry',
      ':',
      ' ',
      '\r',
      '\n',
      '\r\n',
      '\n\n',
      '7',
      'ä',
      '😀',
      '\0',
      '\uFEFF',
      'x',
    ],
  );
  const stream = fc
    .array(piece, { maxLength: 60 })
    .map((pieces) => new TextEncoder().encode(pieces.join('')));
  fc.assert(
    fc.property(stream, fc.infiniteStream(fc.nat(5)), (bytes, lengths) => {
      const chunks: Uint8Array[] = [];
      for (let at = 0; at < bytes.length;) {
        const length = Number(lengths.next().value);
        chunks.push(bytes.subarray(at, at + length));
        at += length;
      }
      const read = parse(chunks);
      expect(read).toEqual(parse([bytes]));
      expect(read).toEqual(reference(bytes));
    }),
    { numRuns: 5_000 },
  );
});

test('an event that is too long is passed over, and what follows is read', () => {
  const chunk = 'x'.repeat(MAX_EVENT_LENGTH / 4);
  const fits = ['event: notification\ndata: ', chunk, chunk, chunk, '\nid: 1\n\n'];
  expect(parse(fits).events).toMatchObject([{ name: 'notification', id: '1' }]);
  const next = 'event: notification\ndata: next\nid: 3\n\n';
  const passed = [
    { name: 'resync', data: '{}', id: '2' },
    { name: 'notification', data: 'next', id: '3' },
  ];
  for (const cut of [
    // One line, and many; the id after them and before.
    ['event: notification\ndata: ', ...Array<string>(9).fill(chunk), '\nid: 2\n\n'],
    [...Array<string>(9).fill(`data: ${chunk}\n`), 'i', 'd: 2\n\n'],
    ['id: 2\ndata: ', ...Array<string>(9).fill(chunk), `\ndata: more\n\n`],
  ]) {
    expect(parse([...fits, ...cut, next]).events.slice(1)).toEqual(passed);
  }
});
