/** A client with fake time, a page that is no browser's and a transport that does as it is told. */
import { afterEach, beforeEach, expect, vi } from 'vitest';
import {
  type ClientOptions,
  type NotificationApi,
  type NotificationClient,
  type NotificationRow,
  type StreamRequest,
  type StreamSink,
  createNotificationClient,
} from '../../../src/index.js';

/** A page that is no browser's. */
class FakeDocument extends EventTarget {
  hidden = false;
  look(isSeen: boolean): void {
    this.hidden = !isSeen;
    this.dispatchEvent(new Event('visibilitychange'));
  }
}

export let page: FakeDocument;
let clients: NotificationClient[];
beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, 'random').mockReturnValue(0);
  page = new FakeDocument();
  clients = [];
  vi.stubGlobal('document', page);
  vi.stubGlobal('window', new EventTarget());
});
afterEach(() => {
  for (const client of clients) client.stop();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** Rows are of a time after all streams, unless a test says otherwise. */
export const BEGUN = Date.parse('2100-01-01');

export function row(n: number): NotificationRow {
  return {
    id: `row ${n}`,
    type: 'info',
    title: `title ${n}`,
    message: '',
    status: 'unread',
    metadata: null,
    created_at: new Date(BEGUN + n * 1_000).toISOString(),
    related_session_id: null,
  };
}

/** One stream that was asked for. */
interface Stream extends StreamRequest {
  readonly sink: StreamSink;
  isClosed: boolean;
}

/** A client over a transport that does as it is told, and over an API that lists `table`. */
export function harness(options: Partial<ClientOptions> = {}) {
  const streams: Stream[] = [];
  const polls: number[] = [];
  const table: NotificationRow[] = [];
  const begun = Date.now();
  const api: NotificationApi = {
    list: () => {
      polls.push(Date.now() - begun);
      return Promise.resolve({
        notifications: [...table].reverse(),
        unreadCount: table.filter(({ status }) => status === 'unread').length,
      });
    },
  };
  const client = createNotificationClient({
    url: '/stream',
    api,
    transport: {
      open(request, sink) {
        const stream = { ...request, sink, isClosed: false };
        streams.push(stream);
        return () => {
          stream.isClosed = true;
        };
      },
    },
    ...options,
  });
  clients.push(client);
  const last = (): Stream => {
    const stream = streams.at(-1);
    if (!stream) throw new Error('no stream');
    return stream;
  };
  return {
    client,
    streams,
    polls,
    table,
    last,
    start: async () => {
      client.start();
      await vi.advanceTimersByTimeAsync(0);
    },
    connect: async (lifetime = 1e9, user_id?: string, heartbeat_seconds?: number) => {
      const timestamp = new Date().toISOString();
      const expires_at = new Date(Date.now() + lifetime).toISOString();
      last().sink.event({
        name: 'connected',
        data: JSON.stringify({ timestamp, expires_at, user_id, heartbeat_seconds }),
        id: 'c0',
      });
      await vi.advanceTimersByTimeAsync(0);
    },
    send: (n: number, id = `c${n}`) => {
      last().sink.event({ name: 'notification', data: JSON.stringify(row(n)), id });
    },
    beat: () => {
      last().sink.event({ name: 'heartbeat', data: '{}', id: '' });
    },
  };
}
export const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);
