/** What the default transport makes of an answer. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { fetchTransport } from '../../src/fetch-transport.js';

afterEach(() => {
  vi.unstubAllGlobals();
});

function open(response: Response | Error, request = {}) {
  const fetched = vi.fn<typeof fetch>(() =>
    response instanceof Error ? Promise.reject(response) : Promise.resolve(response),
  );
  vi.stubGlobal('fetch', fetched);
  const told: unknown[] = [];
  const over = new Promise<void>((resolve) => {
    fetchTransport({ credentials: 'include' }).open(
      { url: '/stream', cursor: '', token: undefined, ...request },
      {
        event: ({ name }) => told.push(name),
        retry: (milliseconds) => told.push(milliseconds),
        ended: () => {
          told.push('ended');
          resolve();
        },
        refused: (answer) => {
          told.push(answer);
          resolve();
        },
      },
    );
  });
  return { fetched, told, over };
}

const STREAM = { headers: { 'content-type': 'text/event-stream; charset=utf-8' } };

describe('fetch', () => {
  test('asks for a stream, with the token and the cursor, past every cache', async () => {
    const { fetched, over } = open(new Response('', STREAM), { token: 't', cursor: 'c' });
    await over;
    const init = { cache: 'no-store', credentials: 'include' };
    expect(fetched.mock.calls[0]).toMatchObject(['/stream', init]);
    const { headers } = new Request('http://host', fetched.mock.calls[0]?.[1]);
    expect(Object.fromEntries(headers)).toMatchObject({
      accept: 'text/event-stream',
      authorization: 'Bearer t',
      'last-event-id': 'c',
    });
  });

  test('tells events in their order, and the end', async () => {
    const { told, over } = open(
      new Response('retry: 7\nevent: heartbeat\ndata: {}\n\ndata: {}\n\n', STREAM),
    );
    await over;
    expect(told).toEqual([7, 'heartbeat', 'message', 'ended']);
  });

  test('a page instead of a stream, as a hotel shows it, is no stream', async () => {
    const { told, over } = open(
      new Response('data: log in\n\n', { headers: { 'content-type': 'text/html' } }),
    );
    await over;
    expect(told).toEqual([{ status: 200, retryAfter: 0 }]);
  });

  test('a refusal is told with its status and when to come back', async () => {
    const headers = {
      'retry-after': '3',
      'content-type': 'application/problem+json',
      'content-length': '22',
    };
    const { told, over } = open(new Response('{"detail":"slow down"}', { status: 429, headers }));
    await over;
    const problem = { detail: 'slow down' };
    expect(told).toEqual([{ status: 429, retryAfter: 3_000, problem }]);
  });

  test.each(['', '1000000'])('a body of %j bytes is no problem document', async (length) => {
    const headers = { 'content-type': 'application/problem+json', 'content-length': length };
    const { told, over } = open(new Response('{"detail":"no"}', { status: 403, headers }));
    await over;
    expect(told).toEqual([{ status: 403, retryAfter: 0 }]);
  });

  test('a network that fails is an end', async () => {
    const { told, over } = open(new TypeError('Failed to fetch'));
    await over;
    expect(told).toEqual(['ended']);
  });
});
