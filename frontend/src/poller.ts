import type { NotificationApi } from './api.js';
import { createClock } from './clock.js';
import type { Inbox } from './inbox.js';
import { LIVE_MS } from './machine.js';
import type { Arrival, Notification } from './notification.js';
import { mayBeCounted, pollDueAt } from './polling.js';
import { within } from './within.js';

/** A call of the app's API that takes longer has failed: a hanging request must not be the last. */
const CALL_TIMEOUT_MS = 30_000;

interface Options {
  /** Looked up each time: a component's object is another in each render. */
  readonly api: () => NotificationApi | undefined;
  readonly inbox: Inbox;
  readonly limit: number;
  /** A poll has changed the inbox; `news` are rows that are new in it. */
  readonly changed: (news: Notification[], arrival: Arrival) => void;
  readonly failed: (error: unknown) => void;
  /** A poll has succeeded after one that failed. */
  readonly recovered: () => void;
}

/** Polls the app's API into the inbox, when {@link pollDueAt} says. */
export interface Poller {
  start(): void;
  stop(): void;
  /** A page nobody sees does not poll; one that is looked at again catches up. */
  setAwake(isAwake: boolean): void;
  /** The stream is open, or is not; its first answer of all begins the first poll. */
  setStreaming(isStreaming: boolean): void;
  /** An attempt to stream failed, or a stream was lost. */
  streamFailed(): void;
  /** The stream brought a row the inbox did not know, or a change; null: of a row that is gone. */
  arrived(row: Notification | null): void;
  /** What the stream brought is not enough to know the count by. */
  doubt(): void;
  /** Asks for a poll that begins no earlier than now. */
  refetch(): void;
  /** Rows were marked: what a poll under way will say is out of date. */
  invalidate(): void;
  /**
   * Has the API mark rows as read. What a poll says while it does so must not bring
   * back what has just been marked here.
   */
  mark(
    ids: readonly string[] | 'all',
    work: (signal: AbortSignal) => Promise<unknown> | undefined,
  ): Promise<void>;
}

/** A poller that has not begun. */
export function createPoller(options: Options): Poller {
  const { api, inbox, limit, changed, failed, recovered } = options;
  const clock = createClock();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isStarted = false;
  let isAwake = true;
  let isStreaming = false;
  let running: AbortController | null = null;
  /** What the API is being told: a poll that it answers meanwhile need not know of it. */
  const marking = new Set<() => void>();
  let failures = 0;
  /** Counts what is done to rows here; a poll across such a change is void. */
  let version = 0;
  let random = 0;
  let startedAt = 0;
  let polledAt = -Infinity;
  /** When the last list that was shown was asked for. */
  let foundAt = -Infinity;
  let countedAt = -Infinity;
  let openedAt = -Infinity;
  let failedAt = -Infinity;
  let doubtedAt = Infinity;
  let recountedAt = -Infinity;
  /** A poll has to begin as soon as one can. */
  let isWanted = false;
  /** Back to which time the last list shows every row its count has counted. */
  let listedSince = Infinity;

  const schedule = (): void => {
    clearTimeout(timer);
    const app = api();
    if (!app || !isStarted || !isAwake || running) return;
    const now = clock();
    const due = pollDueAt(
      { startedAt, polledAt, isWanted, isStreaming, failedAt, doubtedAt, recountedAt },
      random,
    );
    if (due <= now) void poll(app, now);
    else timer = setTimeout(schedule, due - now);
  };

  const poll = async (app: NotificationApi, now: number): Promise<void> => {
    const run = new AbortController();
    running = run;
    polledAt = now;
    random = Math.random();
    isWanted = false;
    if (doubtedAt < Infinity) recountedAt = now;
    doubtedAt = Infinity;
    const before = version;
    try {
      const apply = await within(CALL_TIMEOUT_MS, (signal) => ask(app, signal), run.signal);
      if (run !== running) return;
      const hadFailed = failures > 0;
      failures = 0;
      if (before === version) apply();
      else isWanted = true;
      if (hadFailed) recovered();
    } catch (error) {
      if (run !== running) return;
      failures += 1;
      if (failures === 1) failedAt = clock();
      failed(error);
    }
    running = null;
    schedule();
  };

  /**
   * The list first, the count after it has come: so every row of the list is in
   * the count, which is what keeps the stream from counting it again.
   */
  const ask = async (app: NotificationApi, signal: AbortSignal): Promise<() => void> => {
    const request = { limit, signal };
    const listMark = inbox.mark();
    const listedAt = clock();
    const list = await app.list(request);
    const isPage = 'notifications' in list;
    const notifications = isPage ? list.notifications : list;
    const countMark = isPage ? listMark : inbox.mark();
    countedAt = isPage ? listedAt : clock();
    const unreadCount = isPage
      ? list.unreadCount
      : // eslint-disable-next-line @typescript-eslint/no-non-null-assertion -- an array without it is the app's mistake, which it is told as one
        await app.unreadCount!(request);
    return () => {
      const oldest = notifications.length < limit ? undefined : notifications.at(-1);
      listedSince = !isPage ? Infinity : oldest ? Date.parse(oldest.created_at) : -Infinity;
      const news = inbox.apply({ notifications, unreadCount, listMark, countMark });
      marking.forEach((read) => {
        read();
      });
      changed(news, { live: listedAt - foundAt < LIVE_MS });
      foundAt = listedAt;
    };
  };

  const poller: Poller = {
    start() {
      isStarted = true;
      startedAt = clock();
      polledAt = -Infinity;
      doubtedAt = Infinity;
      failures = 0;
      marking.clear();
      schedule();
    },
    stop() {
      isStarted = false;
      running?.abort();
      running = null;
      clearTimeout(timer);
    },
    setAwake(is) {
      isAwake = is;
      schedule();
    },
    setStreaming(is) {
      if (is && !isStreaming) openedAt = clock();
      isStreaming = is;
      if (polledAt === -Infinity) isWanted = true;
      schedule();
    },
    streamFailed() {
      failedAt = clock();
      schedule();
    },
    arrived(row) {
      // List and count are of one instant: what one does not show, the other
      // has not counted.
      if (row ? Date.parse(row.created_at) > listedSince : listedSince < Infinity) return;
      if (mayBeCounted(clock(), countedAt, openedAt)) poller.doubt();
    },
    doubt() {
      doubtedAt = Math.min(doubtedAt, clock());
      schedule();
    },
    refetch() {
      isWanted = true;
      schedule();
    },
    invalidate() {
      version += 1;
    },
    async mark(ids, work) {
      const newest = inbox.newest();
      const read = (): void => {
        inbox.read(ids, newest);
      };
      marking.add(read);
      version += 1;
      try {
        await within(CALL_TIMEOUT_MS, async (signal) => work(signal));
      } finally {
        marking.delete(read);
        version += 1;
        poller.refetch();
      }
    },
  };
  return poller;
}
