/**
 * The shell around the machine, with fake time, a page that is no browser's and
 * a transport that does as it is told. The real ones are in test/browser.
 */
import { describe, expect, test, vi } from 'vitest';
import type {
  ClientOptions,
  NotificationApi,
  NotificationRow,
  SharingHandlers,
} from '../../src/index.js';
import { harness, page, pass, row } from './support/harness.js';

describe('streaming', () => {
  test('goes through the backoff with real timers, and resumes from the last cursor', async () => {
    const { client, streams, start, connect, send, last } = harness();
    await start();
    await connect();
    send(1);
    last().sink.ended();
    expect(client.getState().status).toBe('waiting');
    expect(last().isClosed).toBe(true);
    await pass(499);
    expect(streams).toHaveLength(1);
    await pass(1);
    expect(streams).toHaveLength(2);
    expect(last().cursor).toBe('c1');
  });

  test('what a closed stream still says is not heard', async () => {
    const { client, streams, start, connect, last } = harness();
    await start();
    await connect();
    const [old] = streams;
    last().sink.ended();
    await pass(500);
    await connect();
    old?.sink.event({ name: 'notification', data: JSON.stringify(row(1)), id: 'old' });
    old?.sink.ended();
    expect(client.getState()).toMatchObject({ status: 'open', unreadCount: 0 });
  });

  test('an error in a listener ends neither the stream nor the other listeners', async () => {
    const uncaught: unknown[] = [];
    const onUncaught = (error: unknown): void => void uncaught.push(error);
    process.on('uncaughtException', onUncaught);
    const mine = new Error('of the app');
    const heard: string[] = [];
    const { client, start, connect, send } = harness({
      onNotification: () => {
        throw mine;
      },
    });
    client.subscribe((event) => {
      if (event?.type === 'notification') heard.push(event.notification.id);
    });
    await start();
    await connect();
    send(1);
    send(2);
    expect(heard).toEqual(['row 1', 'row 2']);
    expect(client.getState().status).toBe('open');
    await pass(0);
    process.off('uncaughtException', onUncaught);
    expect(uncaught).toEqual([mine, mine]);
  });

  test('a listener that stops the client in the middle of an event stops it', async () => {
    const { client, start, connect, send, last } = harness();
    client.subscribe((arrived) => {
      if (arrived) client.stop();
    });
    await start();
    await connect();
    send(1);
    expect(last().isClosed).toBe(true);
    expect(client.getState().status).toBe('stopped');
  });

  test('a stream from before the network went away is closed for another', async () => {
    const { start, connect, streams } = harness();
    await start();
    await connect();
    window.dispatchEvent(new Event('online'));
    await pass(0);
    expect(streams.map(({ isClosed }) => isClosed)).toEqual([true, false]);
  });

  test('a row without an id is no row', async () => {
    const onNotification = vi.fn();
    const { client, start, connect, last } = harness({ onNotification });
    await start();
    await connect();
    last().sink.event({ name: 'notification', data: '{"title":"?","status":"unread"}', id: 'c1' });
    expect(onNotification).not.toHaveBeenCalled();
    expect(client.getState().unreadCount).toBe(0);
  });

  test('a row that comes twice is announced once', async () => {
    const onNotification = vi.fn();
    const { client, start, connect, send } = harness({ onNotification });
    await start();
    await connect();
    send(1);
    send(1, 'c9');
    expect(onNotification).toHaveBeenCalledTimes(1);
    expect(client.getState().unreadCount).toBe(1);
  });

  test('a stop while the token is on its way opens nothing', async () => {
    const { client, streams, start } = harness({
      token: () => new Promise((resolve) => setTimeout(resolve, 100, 'late')),
    });
    await start();
    client.stop();
    await pass(1_000);
    expect(streams).toHaveLength(0);
  });

  test('a token function that throws is a failure, and is asked again', async () => {
    let isBroken = true;
    const { client, start, last } = harness({
      token: () => {
        if (isBroken) throw new Error('no network');
        return 'good';
      },
    });
    await start();
    expect(client.getState()).toMatchObject({ status: 'waiting', failures: 1 });
    isBroken = false;
    await pass(500);
    expect(last().token).toBe('good');
  });

  test('after an authentication error nothing runs, until retry()', async () => {
    let token: string | null = null;
    const onAuthenticationError = vi.fn();
    const { client, start, polls, last } = harness({ token: () => token, onAuthenticationError });
    await start();
    expect(onAuthenticationError).toHaveBeenCalledTimes(1);
    expect(vi.getTimerCount()).toBe(0);
    page.look(true);
    await pass(100_000);
    expect(polls).toHaveLength(0);
    token = 'good';
    client.retry();
    await pass(0);
    expect(last().token).toBe('good');
  });
});

describe('polling', () => {
  test('waits for the stream, and is done once when it opens', async () => {
    const { start, connect, polls } = harness();
    await start();
    await pass(200);
    await connect();
    expect(polls).toEqual([200]);
  });

  test('waits no longer than half a second, and is done again when the stream opens', async () => {
    const { start, connect, polls } = harness();
    await start();
    await pass(700);
    expect(polls).toEqual([500]);
    await connect();
    expect(polls).toEqual([500, 700]);
  });

  test('every 60 s while streaming; 10 s after a failure; every 30 s without a stream', async () => {
    const { start, connect, polls, last, beat } = harness();
    await start();
    await connect();
    for (let beats = 0; beats < 5; beats += 1) {
      await pass(30_000);
      beat();
    }
    expect(polls).toEqual([0, 60_000, 120_000]);
    last().sink.refused({ status: 204, retryAfter: 0 });
    await pass(60_000);
    // 30 s after the last, which is now; then every 30 s.
    expect(polls.slice(3)).toEqual([150_000, 180_000, 210_000]);
  });

  test('10 s after the stream was lost', async () => {
    const { start, connect, polls, last, beat } = harness();
    await start();
    await connect();
    await pass(12_000);
    beat();
    last().sink.ended();
    // The first wait is half a second here: the next attempt hangs.
    await pass(10_000);
    expect(polls).toEqual([0, 22_000]);
  });

  test('a poll that failed is tried again after 10 s, then every 30 s', async () => {
    const onError = vi.fn();
    const times: number[] = [];
    const begun = Date.now();
    const { start, connect } = harness({
      onError,
      api: {
        list: () => {
          times.push(Date.now() - begun);
          return Promise.reject(new Error('down'));
        },
      },
      stream: false,
    });
    await start();
    await pass(75_000);
    expect(times).toEqual([0, 10_000, 40_000, 70_000]);
    expect(onError).toHaveBeenCalledTimes(4);
    expect(connect).toBeDefined();
  });

  test('a poll that hangs is given up after 30 s', async () => {
    const onError = vi.fn();
    const list = vi.fn(() => new Promise<never>(() => undefined));
    const { start } = harness({ onError, api: { list }, stream: false });
    await start();
    await pass(29_999);
    expect(onError).not.toHaveBeenCalled();
    await pass(1);
    expect(onError).toHaveBeenCalledTimes(1);
    await pass(10_000);
    expect(list).toHaveBeenCalledTimes(2);
  });

  test('a hidden page does not poll, and catches up when it is looked at', async () => {
    const { start, connect, polls, beat } = harness();
    await start();
    await connect();
    page.look(false);
    for (let beats = 0; beats < 4; beats += 1) {
      await pass(30_000);
      beat();
    }
    expect(polls).toEqual([0]);
    page.look(true);
    await pass(0);
    expect(polls).toEqual([0, 120_000]);
  });

  test('what becomes of a row shows at once, whatever polls are under way', async () => {
    const { client, start, connect, send, last, table, polls } = harness();
    table.push(row(1), row(2));
    await start();
    await connect();
    expect(client.getState().unreadCount).toBe(2);
    const tell = (name: string, data: object) => {
      last().sink.event({ name, data: JSON.stringify(data), id: 'c9' });
    };
    tell('updated', { ...row(1), status: 'read' });
    expect(client.getState().unreadCount).toBe(1);
    expect(client.getState().notifications.map(({ status }) => status)).toEqual(['unread', 'read']);
    tell('deleted', { id: 'row 2' });
    expect(client.getState().unreadCount).toBe(0);
    expect(client.getState().notifications.map(({ id }) => id)).toEqual(['row 1']);
    send(3);
    tell('updated', { ...row(3), title: 'another' });
    expect(client.getState()).toMatchObject({
      unreadCount: 1,
      notifications: [{ title: 'another' }, { id: 'row 1' }],
    });
    // A change of a row that is not shown: the count is asked for.
    const before = polls.length;
    tell('updated', { ...row(0), id: 'unknown' });
    await pass(6_000);
    expect(polls.length).toBe(before + 1);
  });

  test('a poll that fails is an error until one succeeds', async () => {
    const failure = new Error('down');
    let isDown = true;
    const { client, start } = harness({
      stream: false,
      api: {
        list: () =>
          isDown ? Promise.reject(failure) : Promise.resolve({ notifications: [], unreadCount: 0 }),
      },
    });
    await start();
    expect(client.getState()).toMatchObject({ error: failure, isLoaded: false });
    isDown = false;
    await pass(10_000);
    expect(client.getState()).toMatchObject({ error: null, isLoaded: true });
  });

  test('a poll that finds nothing new leaves every object as it is, and tells nobody', async () => {
    const { client, start, table } = harness({ stream: false });
    table.push(row(1), row(2));
    await start();
    const before = client.getState();
    const listener = vi.fn();
    client.subscribe(listener);
    table[0] = { ...row(1) };
    await pass(30_000);
    expect(client.getState()).toBe(before);
    expect(listener).not.toHaveBeenCalled();
    table[0] = { ...row(1), title: 'another' };
    await pass(30_000);
    const { notifications } = client.getState();
    expect(notifications[0]).toBe(before.notifications[0]);
    expect(notifications[1]).not.toBe(before.notifications[1]);
  });

  test('keys may be numbers', async () => {
    const onNotification = vi.fn();
    const { client, start, connect, last } = harness({ onNotification });
    await start();
    await connect();
    const tell = (name: string, data: object) => {
      last().sink.event({ name, data: JSON.stringify(data), id: 'c9' });
    };
    tell('notification', { ...row(1), id: 42 });
    expect(onNotification.mock.calls[0]?.[0]).toMatchObject({ id: '42' });
    tell('deleted', { id: 42 });
    expect(client.getState()).toMatchObject({ unreadCount: 0, notifications: [] });
  });

  test('resync is followed by a poll', async () => {
    const { start, connect, polls, last } = harness();
    await start();
    await connect();
    await pass(1_000);
    last().sink.event({ name: 'resync', data: '{"reason":"too_far_back"}', id: 'c5' });
    await pass(0);
    expect(polls).toEqual([0, 1_000]);
  });

  test('where list and count are of one instant, a row asks for no other', async () => {
    const { start, connect, send, polls } = harness();
    await start();
    await connect();
    send(1);
    await pass(6_000);
    expect(polls).toEqual([0]);
  });

  test('follows the return of the network where there is no stream', async () => {
    const { start, polls } = harness({ stream: false });
    await start();
    await pass(1_000);
    const before = polls.length;
    window.dispatchEvent(new Event('online'));
    await pass(0);
    expect(polls).toHaveLength(before + 1);
  });

  test('an answer that comes after stop() changes nothing', async () => {
    let answer: (rows: NotificationRow[]) => void = () => undefined;
    const { client, start } = harness({
      api: {
        list: () => new Promise((resolve) => (answer = resolve)),
        unreadCount: () => Promise.resolve(1),
      },
      stream: false,
    });
    await start();
    client.stop();
    answer([row(1)]);
    await pass(0);
    expect(client.getState()).toMatchObject({ status: 'stopped', unreadCount: 0, isLoaded: false });
  });

  test('brings news where there is no stream', async () => {
    const onNotification = vi.fn();
    const { client, start, table } = harness({ stream: false, onNotification });
    table.push(row(1));
    await start();
    expect(onNotification).not.toHaveBeenCalled();
    table.push(row(2), row(3));
    await pass(30_000);
    expect(onNotification.mock.calls).toEqual([
      [row(2), { live: true }],
      [row(3), { live: true }],
    ]);
    expect(client.getState()).toMatchObject({
      status: 'polling',
      reason: 'disabled',
      unreadCount: 3,
    });
  });
});

describe('the count, with a list and a count that are asked for one after the other', () => {
  /** A table whose reads the test places in time. */
  function slow() {
    const table: NotificationRow[] = [];
    const answers: (() => void)[] = [];
    const read = <T>(value: () => T): Promise<T> =>
      new Promise((resolve) => {
        answers.push(() => {
          resolve(value());
        });
      });
    const api: NotificationApi = {
      list: () => read(() => [...table].reverse().slice(0, 20)),
      unreadCount: () => read(() => table.length),
    };
    const answer = async (): Promise<void> => {
      answers.shift()?.();
      await pass(0);
    };
    return { table, api, answer };
  }

  test('a row counted but brought later is put right by another poll, a second after it', async () => {
    const { table, api, answer } = slow();
    const { client, start, connect, send } = harness({ api });
    await start();
    await connect();
    await answer();
    // Between the two reads: not in the list, in the count.
    table.push(row(1));
    await answer();
    expect(client.getState().unreadCount).toBe(1);
    send(1);
    expect(client.getState().unreadCount).toBe(2);
    await pass(1_000);
    await answer();
    await answer();
    expect(client.getState().unreadCount).toBe(1);
  });

  test('a row that comes while the count is on its way, and is not in it, counts', async () => {
    const { api, answer } = slow();
    const { client, start, connect, send } = harness({ api });
    await start();
    await connect();
    await answer();
    send(1);
    await answer();
    expect(client.getState().unreadCount).toBe(1);
  });

  test('a row in the list is not counted again, however late it is brought', async () => {
    const { table, api, answer } = slow();
    const { client, start, connect, send } = harness({ api });
    table.push(row(1));
    await start();
    await connect();
    await answer();
    await answer();
    await pass(1_000);
    send(1);
    expect(client.getState().unreadCount).toBe(1);
  });

  test('rows that are too old for a list on its way, and may be in its count, have it asked again', async () => {
    const table = [row(3), row(2), row(1)];
    const answers: (() => void)[] = [];
    const list = vi.fn<NotificationApi['list']>(
      () =>
        new Promise((resolve) => {
          answers.push(() => {
            resolve({ notifications: table.slice(0, 2), unreadCount: table.length });
          });
        }),
    );
    const { client, start, connect, send } = harness({ api: { list }, limit: 2 });
    await start();
    await connect();
    // Committed before the list was read: the stream begins a little before it was opened.
    for (const n of [1, 2, 3]) send(n);
    answers[0]?.();
    await pass(0);
    expect(client.getState().unreadCount).toBe(4);
    await pass(1_000);
    answers[1]?.();
    await pass(0);
    expect(client.getState().unreadCount).toBe(3);
    await pass(20_000);
    expect(list).toHaveBeenCalledTimes(2);
  });

  test('rows that never stop have it asked again every five seconds, not every second', async () => {
    const polls: number[] = [];
    const begun = Date.now();
    const api: NotificationApi = {
      list: () => {
        polls.push(Date.now() - begun);
        return Promise.resolve([]);
      },
      unreadCount: () => Promise.resolve(0),
    };
    const { start, connect, send } = harness({ api });
    await start();
    await connect();
    for (let n = 1; n <= 40; n += 1) {
      send(n);
      await pass(500);
    }
    expect(polls).toEqual([0, 1_000, 6_000, 11_000, 16_000]);
  });

  test('a row long after a count is beyond doubt: no poll follows it', async () => {
    const { api, answer } = slow();
    const list = vi.spyOn(api, 'list');
    const { start, connect, send } = harness({ api });
    await start();
    await connect();
    await answer();
    await answer();
    await pass(5_000);
    send(1);
    await pass(20_000);
    expect(list).toHaveBeenCalledTimes(1);
  });
});

describe('marking as read', () => {
  test('shows at once, tells the API, and asks it afterwards', async () => {
    const told: unknown[] = [];
    const table = [row(2), row(1)];
    const { client, start, connect } = harness({
      api: {
        list: () =>
          Promise.resolve({
            notifications: [...table],
            unreadCount: table.filter(({ status }) => status === 'unread').length,
          }),
        markAsRead: async (ids) => {
          await pass(100);
          told.push(ids);
          table[1] = { ...row(1), status: 'read' };
        },
      },
    });
    await start();
    await connect();
    const marking = client.markAsRead('row 1');
    expect(client.getState().unreadCount).toBe(1);
    expect(told).toEqual([]);
    await marking;
    await pass(0);
    expect(told).toEqual([['row 1']]);
    expect(client.getState().unreadCount).toBe(1);
    expect(client.getState().notifications.map(({ status }) => status)).toEqual(['unread', 'read']);
  });

  test('that fails rejects, is told to onError, and is undone by the poll that follows', async () => {
    const onError = vi.fn();
    const failure = new Error('read-only');
    const rows = [row(2), row(1)];
    const { client, start, connect } = harness({
      onError,
      api: {
        list: () => Promise.resolve({ notifications: rows, unreadCount: 2 }),
        markAllAsRead: () => Promise.reject(failure),
      },
    });
    await start();
    await connect();
    const marking = client.markAllAsRead();
    expect(client.getState().unreadCount).toBe(0);
    await expect(marking).rejects.toBe(failure);
    await pass(0);
    expect(onError).toHaveBeenCalledWith(failure, 'markAllAsRead');
    expect(client.getState().unreadCount).toBe(2);
  });

  test('a poll that was under way when it began is void, and one meanwhile brings nothing back', async () => {
    const answers: ((unreadCount: number) => void)[] = [];
    let marked: () => void = () => undefined;
    const { client, start, connect } = harness({
      api: {
        list: () =>
          new Promise((resolve) => {
            answers.push((unreadCount) => {
              resolve({ notifications: [], unreadCount });
            });
          }),
        markAllAsRead: () => new Promise<void>((resolve) => (marked = resolve)),
      },
    });
    await start();
    await connect();
    answers[0]?.(5);
    await pass(0);
    client.refresh();
    const marking = client.markAllAsRead();
    answers[1]?.(5);
    await pass(0);
    expect(client.getState().unreadCount).toBe(0);
    answers[2]?.(5);
    await pass(0);
    expect(client.getState().unreadCount).toBe(0);
    marked();
    await marking;
    expect(answers).toHaveLength(4);
    answers[3]?.(0);
    await pass(0);
    expect(client.getState().unreadCount).toBe(0);
  });
});

test('a page that is out of view for long closes its stream, where it is told to', async () => {
  for (const closeWhenHidden of [true, false]) {
    const { start, connect, send, streams, last } = harness({ closeWhenHidden });
    await start();
    await connect();
    send(1);
    page.look(false);
    await pass(29_000);
    page.look(true);
    page.look(false);
    await pass(29_999);
    expect(streams.map(({ isClosed }) => isClosed)).toEqual([false]);
    await pass(1);
    expect(streams.map(({ isClosed }) => isClosed)).toEqual([closeWhenHidden]);
    page.look(true);
    expect(streams).toHaveLength(closeWhenHidden ? 2 : 1);
    expect(last().cursor).toBe(closeWhenHidden ? 'c1' : '');
  }
});

describe('one user after another', () => {
  test('a stream that turns out to be of somebody else clears everything, and is told', async () => {
    const onUserChanged = vi.fn();
    const onNotification = vi.fn();
    const { client, start, connect, send, last, streams, polls } = harness({
      onUserChanged,
      onNotification,
    });
    await start();
    await connect(1e9, 'ada');
    send(1);
    last().sink.ended();
    await pass(500);
    const sink = last().sink;
    await connect(1e9, 'grace');
    expect(last().isClosed).toBe(true);
    // What it says all the same is not heard.
    sink.event({ name: 'notification', data: JSON.stringify(row(2)), id: 'c2' });
    expect(client.getState()).toMatchObject({
      status: 'stopped',
      reason: 'user_changed',
      notifications: [],
      unreadCount: 0,
      isLoaded: false,
    });
    expect(onUserChanged).toHaveBeenCalledTimes(1);
    expect(onNotification).toHaveBeenCalledTimes(1);
    const before = polls.length;
    await pass(600_000);
    expect([polls.length, streams.length]).toEqual([before, 2]);
    client.reset();
    await pass(0);
    expect(last().cursor).toBe('');
    await connect(1e9, 'grace');
    expect(client.getState().status).toBe('open');
  });

  test('reset() forgets everything, what is on its way included, and begins anew', async () => {
    const answers: ((rows: NotificationRow[]) => void)[] = [];
    const { client, start, connect, send, last, streams } = harness({
      api: {
        list: () => new Promise((resolve) => answers.push(resolve)),
        unreadCount: () => Promise.resolve(7),
      },
    });
    await start();
    await connect(1e9, 'ada');
    send(1);
    client.reset();
    expect(client.getState()).toMatchObject({ notifications: [], unreadCount: 0, isLoaded: false });
    answers[0]?.([row(1)]);
    await pass(0);
    expect(client.getState()).toMatchObject({ notifications: [], unreadCount: 0 });
    expect(streams.map(({ isClosed }) => isClosed)).toEqual([true, false]);
    expect(last().cursor).toBe('');
    await connect(1e9, 'grace');
    expect(client.getState().status).toBe('open');
  });

  test('reset() before start() and after stop() begins nothing', async () => {
    const { client, streams, polls } = harness();
    client.reset();
    client.start();
    client.stop();
    client.reset();
    await pass(60_000);
    expect([streams.length, polls.length]).toEqual([1, 0]);
  });

  test('while nobody is logged in nothing happens at all', async () => {
    const never = vi.fn(() => null);
    const { client, streams, polls } = harness({
      enabled: false,
      token: never,
      onAuthenticationError: never,
      onError: never,
    });
    client.start();
    client.retry();
    client.refresh();
    page.look(true);
    window.dispatchEvent(new Event('online'));
    await pass(600_000);
    expect([streams.length, polls.length, never.mock.calls.length]).toEqual([0, 0, 0]);
    expect(client.getState()).toMatchObject({ status: 'stopped', reason: 'disabled' });
  });
});

test('the gateway says how often its heartbeats come', async () => {
  const { client, start, connect, streams } = harness();
  await start();
  await connect(1e9, 'ada', 4);
  await pass(9_999);
  expect(client.getState().status).toBe('open');
  await pass(1);
  expect(client.getState().status).toBe('waiting');
  expect(streams).toHaveLength(1);
});

describe('an app that hangs', () => {
  test('a mark ends after 30 s with its signal aborted, and no poll waits for it', async () => {
    const onError = vi.fn();
    const signals: AbortSignal[] = [];
    const rows = [row(2), row(1)];
    const list = vi.fn(() =>
      Promise.resolve({ notifications: [...rows], unreadCount: rows.length }),
    );
    const { client, start, connect } = harness({
      onError,
      api: {
        list,
        markAllAsRead: ({ signal }) => {
          signals.push(signal);
          return new Promise(() => undefined);
        },
      },
    });
    await start();
    await connect();
    const marking = client.markAllAsRead();
    const outcome = expect(marking).rejects.toMatchObject({ name: 'TimeoutError' });
    rows.unshift(row(3));
    client.refresh();
    await pass(0);
    expect(list).toHaveBeenCalledTimes(2);
    // What is newer than the mark is unread.
    expect(client.getState().unreadCount).toBe(1);
    await pass(30_000);
    await outcome;
    expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
    expect(onError).toHaveBeenCalledTimes(1);
    expect(client.getState().unreadCount).toBe(3);
  });

  test('a token is asked for once, however many attempts wait for it, and 30 s at the most', async () => {
    const token = vi.fn(() => new Promise<string>(() => undefined));
    const { client, start, streams } = harness({ token });
    await start();
    await pass(15_000);
    client.retry();
    await pass(10_000);
    expect(token).toHaveBeenCalledTimes(1);
    await pass(20_000);
    expect(token).toHaveBeenCalledTimes(2);
    expect(streams).toEqual([]);
    expect(client.getState().status).not.toBe('stopped');
  });

  test('a clock that is set back an hour stops neither polls nor attempts', async () => {
    const { client, start, connect, polls, streams, beat } = harness();
    await start();
    await connect();
    vi.setSystemTime(Date.now() - 3_600_000);
    beat();
    await pass(180_000);
    expect(polls.length).toBeGreaterThan(2);
    expect(streams.length).toBeGreaterThan(1);
    expect(client.getState().status).not.toBe('open');
  });
});

test('an API that answers again after it did not has the stream tried at once', async () => {
  let isDown = true;
  const { client, start, last, streams } = harness({
    api: {
      list: () =>
        isDown
          ? Promise.reject(new Error('down'))
          : Promise.resolve({ notifications: [], unreadCount: 0 }),
    },
    onError: () => undefined,
  });
  await start();
  for (let failure = 0; failure < 10; failure += 1) {
    last().sink.ended();
    await pass(15_000);
  }
  expect(client.getState()).toMatchObject({ status: 'polling', reason: 'failures' });
  const before = streams.length;
  isDown = false;
  await pass(30_000);
  expect(streams).toHaveLength(before + 1);
});

describe('beside other tabs', () => {
  /** A tab's place among others that the test plays. */
  function shared(options: Partial<ClientOptions> = {}) {
    const posted: { type: string }[] = [];
    let handlers: SharingHandlers | undefined;
    const isLeft = vi.fn();
    const tab = harness({
      ...options,
      share: (_, own) => {
        handlers = own;
        return {
          post: (message) => posted.push(message as { type: string }),
          heard: () => undefined,
          leave: isLeft,
        };
      },
    });
    return {
      ...tab,
      isLeft,
      /** What it has told the others since it was last asked. */
      posted: () => posted.splice(0),
      lead: async () => {
        handlers?.lead();
        await pass(0);
      },
      demote: () => handlers?.demoted(),
      hear: async (message: unknown) => {
        handlers?.message(message);
        await pass(0);
      },
    };
  }
  const OPEN = { status: 'open', reason: null, failures: 0 };
  const brought = (n: number) => ({
    type: 'deliver',
    row: row(n),
    arrival: { live: true },
    isNews: true,
  });
  const REFETCH = {
    type: 'brought',
    effect: { type: 'refetch', reason: 'connected' },
    owner: '',
    holdUntil: 0,
  };

  test('it asks how the stream is, and shows what it hears', async () => {
    const { client, start, posted, hear, streams } = shared();
    await start();
    expect(posted()).toEqual([{ type: 'hello' }]);
    await hear({ type: 'link', link: OPEN, cursor: 'c7', owner: '', holdUntil: 0 });
    await hear({ type: 'brought', effect: brought(8), cursor: 'c8', owner: '', holdUntil: 0 });
    expect(client.getState()).toMatchObject({ status: 'open', unreadCount: 1 });
    expect(streams).toEqual([]);
  });

  test('its first stream goes on from the cursor that was shared last', async () => {
    const { start, hear, lead, last } = shared();
    await start();
    await hear({ type: 'link', link: OPEN, cursor: 'c7', owner: '', holdUntil: 0 });
    await hear({ type: 'brought', effect: brought(8), cursor: 'c8', owner: '', holdUntil: 0 });
    await lead();
    expect(last().cursor).toBe('c8');
  });

  test('a leader tells each change, each row, and every half minute that it lives', async () => {
    const { start, lead, connect, send, beat, posted } = shared();
    await start();
    await lead();
    posted();
    await connect();
    send(1);
    expect(posted()).toEqual([
      { ...REFETCH, cursor: 'c0' },
      { type: 'link', link: OPEN, cursor: 'c0', owner: '', holdUntil: 0 },
      { type: 'brought', effect: brought(1), cursor: 'c1', owner: '', holdUntil: 0 },
    ]);
    await pass(29_000);
    beat();
    expect(posted()).toEqual([]);
    await pass(1_000);
    expect(posted()).toEqual([{ type: 'link', link: OPEN, cursor: 'c1', owner: '', holdUntil: 0 }]);
  });

  test('a leader answers one who is new at once', async () => {
    const { start, lead, connect, hear, posted } = shared();
    await start();
    await lead();
    await connect();
    posted();
    await hear({ type: 'hello' });
    expect(posted()).toEqual([{ type: 'link', link: OPEN, cursor: 'c0', owner: '', holdUntil: 0 }]);
  });

  test('a leader believes its own stream, not what another has said of its', async () => {
    const { client, start, lead, connect, hear, send, last } = shared();
    await start();
    await lead();
    await connect();
    await hear({ type: 'link', link: { ...OPEN, status: 'waiting', failures: 3 }, cursor: 'old' });
    expect(client.getState()).toMatchObject(OPEN);
    send(1);
    last().sink.ended();
    await pass(500);
    expect(last().cursor).toBe('c1');
  });

  test('one whose lead was taken away closes its stream, and follows', async () => {
    const { client, start, lead, connect, demote, hear, streams, posted } = shared();
    await start();
    await lead();
    await connect();
    demote();
    expect(streams[0]?.isClosed).toBe(true);
    expect(client.getState().status).toBe('open');
    posted();
    await pass(30_000);
    expect(posted()).toEqual([]);
    await hear({ type: 'link', link: { ...OPEN, status: 'waiting' }, cursor: 'c9' });
    expect(client.getState().status).toBe('waiting');
  });

  test('a leader whose stream is of somebody else tells the others to forget, and nothing of it', async () => {
    const { client, start, lead, connect, send, last, posted, isLeft } = shared();
    await start();
    await lead();
    await connect(1e9, 'ada');
    send(1);
    last().sink.ended();
    await pass(500);
    posted();
    await connect(1e9, 'grace');
    expect(posted()).toEqual([{ type: 'user_changed' }]);
    expect(isLeft).toHaveBeenCalledOnce();
    expect(client.getState()).toMatchObject({ reason: 'user_changed', notifications: [] });
  });

  test('a tab forgets when it is told so, and shows nothing that is of somebody else', async () => {
    const { client, start, hear, lead, last } = shared();
    await start();
    await hear({ type: 'link', link: OPEN, cursor: 'c1', owner: 'ada' });
    await hear({ type: 'brought', effect: brought(1), cursor: 'c2', owner: 'grace' });
    await hear({ type: 'link', link: OPEN, cursor: 'c2', owner: 'grace' });
    expect(client.getState()).toMatchObject({ status: 'open', unreadCount: 0 });
    await lead();
    expect(last().cursor).toBe('c1');
    await hear({ type: 'user_changed' });
    expect(client.getState()).toMatchObject({ status: 'stopped', reason: 'user_changed' });
    expect(last().isClosed).toBe(true);
  });

  test('resync reaches every tab', async () => {
    const { start, lead, connect, last, posted, hear, polls } = shared();
    await start();
    await lead();
    await connect();
    posted();
    last().sink.event({ name: 'resync', data: '{"reason":"too_far_back"}', id: 'c5' });
    const effect = { type: 'refetch', reason: 'too_far_back' };
    expect(posted()).toEqual([{ ...REFETCH, effect, cursor: 'c5' }]);
    await pass(0);
    const before = polls.length;
    await hear({ ...REFETCH, cursor: 'c5' });
    expect(polls).toHaveLength(before + 1);
  });

  test('what is marked here is told before the API is, and asked for everywhere after it', async () => {
    const { client, start, posted } = shared({
      api: {
        list: () => Promise.resolve({ notifications: [], unreadCount: 0 }),
        markAsRead: () => Promise.resolve(),
      },
    });
    await start();
    posted();
    await client.markAsRead('row 1');
    expect(posted()).toMatchObject([
      { type: 'told', message: { action: 'markAsRead', ids: ['row 1'] } },
      { type: 'told', message: 'refetch' },
    ]);
  });

  test('what is marked in another tab is not brought back by a poll from before', async () => {
    let answer: (rows: NotificationRow[]) => void = () => undefined;
    const { client, start, hear } = shared({
      api: {
        list: () => new Promise((resolve) => (answer = resolve)),
        unreadCount: () => Promise.resolve(1),
      },
    });
    await start();
    await hear({ type: 'link', link: OPEN, cursor: 'c1' });
    await hear({ type: 'brought', effect: brought(1), cursor: 'c1' });
    await hear({ type: 'told', message: { action: 'markAsRead', ids: ['row 1'], until: 0 } });
    answer([row(1)]);
    await pass(0);
    expect(client.getState().unreadCount).toBe(0);
  });

  test('a leader that may not stream lets another try', async () => {
    const { client, start, lead, last, isLeft } = shared({
      onAuthenticationError: () => undefined,
    });
    await start();
    await lead();
    last().sink.refused({ status: 401, retryAfter: 0 });
    await pass(0);
    last().sink.refused({ status: 401, retryAfter: 0 });
    expect(client.getState()).toMatchObject({ status: 'stopped', reason: 'authentication' });
    expect(isLeft).toHaveBeenCalledOnce();
  });

  test('a page that is left lets go, and joins again when it comes back', async () => {
    const { start, lead, connect, streams, isLeft, posted } = shared();
    await start();
    await lead();
    await connect();
    window.dispatchEvent(new Event('pagehide'));
    expect(isLeft).toHaveBeenCalledOnce();
    expect(streams[0]?.isClosed).toBe(true);
    posted();
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    expect(posted()).toEqual([{ type: 'hello' }]);
  });
});
