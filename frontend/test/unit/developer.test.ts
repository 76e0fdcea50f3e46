/** What the client says to the developer, and the options that fit it to an app. */
import { describe, expect, expectTypeOf, test, vi } from 'vitest';
import {
  type ClientEvent,
  type NotificationClient,
  NotificationClientError,
  type NotificationRow,
  createNotificationClient,
} from '../../src/index.js';
import { harness, page, pass, row } from './support/harness.js';

const nothing = { list: () => Promise.resolve({ notifications: [], unreadCount: 0 }) };

describe('what is wrong', () => {
  test('an address that is not the gateway’s is told once it has answered three times', async () => {
    const onError = vi.fn<(error: unknown) => void>();
    const warn = vi.fn<(message: string) => void>();
    const { start, last, client } = harness({ onError, logger: { warn }, url: '/index.html' });
    const events: (ClientEvent | undefined)[] = [];
    client.subscribe((event) => events.push(event));
    await start();
    for (const wait of [500, 1_000, 2_000]) {
      expect(onError).not.toHaveBeenCalled();
      last().sink.refused({ status: 200, retryAfter: 0 });
      await pass(wait);
    }
    expect(onError).toHaveBeenCalledOnce();
    const error = onError.mock.calls[0]?.[0];
    expect(error).toBeInstanceOf(NotificationClientError);
    expect(error).toMatchObject({ kind: 'stream_refused', status: 200 });
    expect(warn.mock.calls.flat().join()).toMatch(/index.html answers 200 and no stream/);
    expect(events).toContainEqual({ type: 'error', error });
  });

  test('what the gateway says about it comes with the error', async () => {
    const onError = vi.fn<(error: unknown) => void>();
    const { start, last } = harness({ onError, url: () => '/nowhere', logger: {} });
    const problem = { title: 'Forbidden', detail: 'the origin is not allowed' };
    await start();
    for (const wait of [500, 1_000, 2_000]) {
      last().sink.refused({ status: 403, retryAfter: 0, problem });
      await pass(wait);
    }
    expect(onError.mock.calls[0]?.[0]).toMatchObject({ status: 403, problem });
    expect(String(onError.mock.calls[0]?.[0])).toMatch(/the origin is not allowed/);
  });

  test('a token that is refused for good is a warning with the gateway’s reason', async () => {
    const warn = vi.fn<(message: string) => void>();
    const { start, last } = harness({ logger: { warn }, token: () => 'secret' });
    await start();
    const refusal = { status: 401, retryAfter: 0, problem: { detail: 'the audience is wrong' } };
    last().sink.refused(refusal);
    await pass(0);
    last().sink.refused(refusal);
    await pass(0);
    const words = warn.mock.calls.flat().join();
    expect(words).toMatch(/the audience is wrong/);
    expect(words).not.toMatch(/secret/);
  });

  test.each([
    ['an object', { rows: [] }, /a list of rows with an id/],
    ['rows without an id', [{ title: 'one' }], /a list of rows with an id/],
    ['nothing', undefined, /a list of rows with an id/],
    ['a list without a count', [row(1)], /a number for unreadCount/],
  ])('an API that gives %s is told so', async (_, answer, words) => {
    const onError = vi.fn<(error: unknown) => void>();
    const { start, client } = harness({
      onError,
      logger: {},
      api: { list: () => Promise.resolve(answer as never) },
    });
    await start();
    await pass(500);
    expect(onError.mock.calls[0]?.[0]).toMatchObject({ kind: 'api_answer' });
    expect(String(onError.mock.calls[0]?.[0])).toMatch(words);
    expect(client.getState().error).toBe(onError.mock.calls[0]?.[0]);
  });

  test('a client without a user is warned of, once', async () => {
    const warn = vi.fn<(message: string) => void>();
    const one = harness({ logger: { warn }, api: nothing });
    await one.start();
    await harness({ logger: { warn }, api: nothing, user: 'ada' }).start();
    const about = warn.mock.calls.flat().filter((words) => words.includes('option `user`'));
    expect(about.length).toBeLessThan(2);
  });

  test('a user that is not the token’s is warned of', async () => {
    const warn = vi.fn<(message: string) => void>();
    const { start, connect, client } = harness({ logger: { warn }, user: 'me@example.com' });
    await start();
    await connect(1e9, '7f3e');
    expect(client.getState()).toMatchObject({ status: 'stopped', reason: 'user_changed' });
    expect(warn.mock.calls.flat().join()).toMatch(/somebody else than the option `user`/);
  });

  test('what the stream does is written where it is wanted', async () => {
    const debug = vi.fn<(message: string) => void>();
    const { start, connect, last } = harness({ logger: { debug }, user: 'ada' });
    await start();
    await connect();
    last().sink.ended();
    await pass(0);
    expect(debug.mock.calls.flat()).toEqual(['stream: open', 'stream: waiting, 1 failures']);
  });
});

describe('an app that keeps its own list', () => {
  test('is told when the stream cannot tell what was missed', async () => {
    const onResync = vi.fn<(reason: string) => void>();
    const { start, connect, last } = harness({ onResync });
    await start();
    await connect();
    last().sink.event({ name: 'resync', data: '{"reason":"too_far_back"}', id: 'c5' });
    await pass(0);
    expect(onResync.mock.calls.flat()).toEqual(['connected', 'too_far_back']);
  });
});

test('what becomes of a row is told, whether it is listed or not', async () => {
  const { client, start, connect, last } = harness({ user: 'ada' });
  const events: (ClientEvent | undefined)[] = [];
  client.subscribe((event) => events.push(event));
  await start();
  await connect();
  last().sink.event({ name: 'updated', data: JSON.stringify(row(7)), id: 'c7' });
  last().sink.event({ name: 'deleted', data: '{"id":"row 8"}', id: 'c8' });
  expect(events.filter((event) => event?.type === 'change')).toEqual([
    { type: 'change', id: 'row 7', notification: row(7) },
    { type: 'change', id: 'row 8', notification: null },
  ]);
});

describe('a list that the server has put into the page', () => {
  const initialData = { user: 'ada', notifications: [row(1)], unreadCount: 3, cursor: 'c9' };

  test('is there from the beginning, and the stream begins where it was read', async () => {
    const { client, start, last } = harness({ initialData, user: 'ada' });
    expect(client.getInitialState()).toMatchObject({
      isLoaded: true,
      unreadCount: 3,
      notifications: [row(1)],
    });
    await start();
    expect(last().cursor).toBe('c9');
  });

  test('is shown to nobody else, nor again after reset()', async () => {
    const other = harness({ initialData, user: 'bob' });
    expect(other.client.getState()).toMatchObject({ isLoaded: false, notifications: [] });
    await other.start();
    expect(other.last().cursor).toBe('');
    const own = harness({ initialData, user: 'ada', api: undefined });
    await own.start();
    own.client.reset();
    await pass(0);
    expect(own.client.getState().notifications).toEqual([]);
    expect(own.last().cursor).toBe('');
  });
});

describe('what the user does', () => {
  test('is done by the API where it has it, and by nothing where it has not', async () => {
    const archive = vi.fn(() => Promise.resolve());
    const { client, start, table } = harness({ user: 'ada' });
    expect(client.can('archive')).toBe(false);
    const own = harness({
      user: 'ada',
      api: {
        list: () => Promise.resolve({ notifications: table, unreadCount: table.length }),
        archive,
      },
    });
    table.push(row(1));
    await start();
    await own.start();
    await own.connect();
    expect(own.client.can('archive')).toBe(true);
    expect(own.client.can('markAsRead')).toBe(false);
    expect(own.client.getState().unreadCount).toBe(1);
    const archiving = own.client.archive('row 1');
    expect(own.client.getState()).toMatchObject({ unreadCount: 0, notifications: [] });
    table.pop();
    await archiving;
    expect(archive).toHaveBeenCalledExactlyOnceWith(['row 1'], expect.anything());
    await pass(0);
    expect(own.client.getState().notifications).toEqual([]);
  });

  test('without an API marks are kept here, and nothing else can be done', async () => {
    const { client, start, connect, send } = harness({ api: undefined, user: 'ada' });
    await start();
    await connect();
    send(1);
    expect(client.can('markAllAsRead')).toBe(true);
    expect(client.can('remove')).toBe(false);
    await client.markAllAsRead();
    expect(client.getState().unreadCount).toBe(0);
  });

  test('and fails is told to nobody where another user is there by then', async () => {
    const onError = vi.fn();
    let fail = (): void => undefined;
    const { client, start, connect } = harness({
      user: 'ada',
      onError,
      api: {
        ...nothing,
        markAsRead: () =>
          new Promise((_, reject) => {
            fail = () => {
              reject(new Error('a secret of ada'));
            };
          }),
      },
    });
    await start();
    await connect();
    for (const end of [client.reset, client.stop]) {
      const marking = client.markAsRead('row 1').catch(String);
      end();
      fail();
      await marking;
    }
    expect(onError).not.toHaveBeenCalled();
  });

  test('has seen, under traffic, asks for no list', async () => {
    const markAllAsSeen = vi.fn(() => Promise.resolve());
    const { client, start, connect, polls, send } = harness({ user: 'ada' });
    const own = harness({ user: 'ada', api: { ...nothing, markAllAsSeen } });
    await start();
    await own.start();
    await own.connect();
    await connect();
    send(1);
    const before = polls.length;
    await client.markAllAsSeen();
    await own.client.markAllAsSeen();
    expect(markAllAsSeen).toHaveBeenCalledOnce();
    expect(client.getState().unseenCount).toBe(0);
    expect(polls).toHaveLength(before);
  });

  test('older notifications come as many at a time as are kept, up to the limit', async () => {
    const table = [9, 8, 7, 6, 5, 4, 3, 2, 1].map((n) => row(n));
    const limits: number[] = [];
    const { client, start, connect } = harness({
      user: 'ada',
      limit: 2,
      maxLimit: 5,
      api: {
        list: ({ limit }) => {
          limits.push(limit);
          return Promise.resolve({ notifications: table.slice(0, limit), unreadCount: 9 });
        },
      },
    });
    await start();
    await connect();
    expect(client.getState()).toMatchObject({ hasMore: true, isFetchingMore: false });
    client.fetchMore();
    expect(client.getState().isFetchingMore).toBe(true);
    client.fetchMore();
    await pass(0);
    expect(client.getState().notifications).toHaveLength(4);
    client.fetchMore();
    await pass(0);
    expect(client.getState()).toMatchObject({ hasMore: false, isFetchingMore: false });
    expect(client.getState().notifications).toHaveLength(5);
    expect(limits).toEqual([2, 4, 5]);
    client.reset();
    await pass(500);
    expect(limits.at(-1)).toBe(2);
  });
});

test('a stopped client stays so, whoever looks at the page, with closeWhenHidden too', async () => {
  const onUserChanged = vi.fn();
  const options = { user: 'ada', closeWhenHidden: true, onUserChanged };
  const { start, connect, streams } = harness(options);
  await start();
  await connect(1e9, 'bob');
  page.look(false);
  await pass(31_000);
  page.look(true);
  await pass(0);
  expect(streams).toHaveLength(1);
  expect(onUserChanged).toHaveBeenCalledOnce();
});

describe('connecting and disconnecting', () => {
  test('disconnect() leaves polling, connect() streams on from the cursor', async () => {
    const { client, start, connect, send, streams, last } = harness({ user: 'ada' });
    await start();
    await connect();
    send(1);
    client.disconnect();
    expect(client.getState()).toMatchObject({ status: 'polling', reason: 'disabled' });
    expect(last().isClosed).toBe(true);
    client.connect();
    await pass(0);
    expect(streams).toHaveLength(2);
    expect(last().cursor).toBe('c1');
    await connect();
    client.connect();
    await pass(0);
    expect(streams).toHaveLength(2);
    expect(client.getState().status).toBe('open');
  });

  test('before start() they only say what is to be', async () => {
    const { client, start, streams } = harness({ user: 'ada' });
    client.disconnect();
    expect(client.getState().status).toBe('connecting');
    await start();
    expect(client.getState().status).toBe('polling');
    expect(streams).toHaveLength(0);
  });

  test('after so many failures as the app says it polls', async () => {
    const { client, start, last } = harness({ user: 'ada', maxReconnectAttempts: 5 });
    client.setMaxReconnectAttempts(2);
    await start();
    last().sink.ended();
    await pass(500);
    expect(client.getState().status).toBe('connecting');
    last().sink.ended();
    expect(client.getState()).toMatchObject({ status: 'polling', reason: 'failures', failures: 2 });
  });
});

test('the type of metadata is the app’s', () => {
  interface Order {
    readonly order: string;
  }
  const client = createNotificationClient<Order>({
    url: '/stream',
    onNotification: ({ metadata }) => {
      expectTypeOf(metadata).toEqualTypeOf<Order>();
    },
  });
  expectTypeOf(client.getState().notifications).toEqualTypeOf<readonly NotificationRow<Order>[]>();
  expectTypeOf(client).toExtend<NotificationClient<Order>>();
  expect(client.getState().notifications).toEqual([]);
});
