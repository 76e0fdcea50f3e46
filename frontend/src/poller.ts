import type { NotificationApi } from './api.js';
import type { Inbox } from './inbox.js';
import type { Notification } from './notification.js';
import { mayBeCounted, pollDueAt } from './polling.js';

/** A poll that takes longer has failed: a hanging request must not be the last. */
const POLL_TIMEOUT_MS = 30_000;

interface Options {
  /** Looked up each time: a component's object is another in each render. */
  readonly api: () => NotificationApi | undefined;
  readonly inbox: Inbox;
  readonly limit: number;
  /** A poll has changed the inbox; `news` are rows that are new in it. */
  readonly changed: (news: Notification[]) => void;
  readonly failed: (error: unknown) => void;
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
  /** The stream brought a row the inbox did not know. */
  arrived(row: Notification): void;
  /** Asks for a poll that begins no earlier than now. */
  refetch(): void;
  /** Rows were marked: what a poll under way will say is out of date. */
  invalidate(): void;
  /**
   * No poll until `work` is through: one in the middle of it could bring back
   * what has just been marked.
   */
  holdFor(work: Promise<unknown> | undefined): Promise<void>;
}

/** A poller that has not begun. */
export function createPoller({ api, inbox, limit, changed, failed }: Options): Poller {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isStarted = false;
  let isAwake = true;
  let isStreaming = false;
  let running: AbortController | null = null;
  let holds = 0;
  let failures = 0;
  /** Counts what is done to rows here; a poll across such a change is void. */
  let version = 0;
  let random = 0;
  let startedAt = 0;
  let polledAt = -Infinity;
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
    if (!app || !isStarted || !isAwake || running || holds > 0) return;
    const now = Date.now();
    const due = pollDueAt(
      { startedAt, polledAt, isWanted, isStreaming, failedAt, doubtedAt, recountedAt },
      random,
    );
    if (due <= now) void poll(app, now);
    else timer = setTimeout(schedule, due - now);
  };

  const poll = async (app: NotificationApi, now: number): Promise<void> => {
    const run = new AbortController();
    const timeout = setTimeout(() => {
      run.abort(new Error('poll timed out'));
    }, POLL_TIMEOUT_MS);
    // An app's function that does not heed its signal must not hold us up.
    const late = new Promise<never>((_, reject) => {
      run.signal.onabort = () => {
        clearTimeout(timeout);
        reject(run.signal.reason as Error);
      };
    });
    running = run;
    polledAt = now;
    random = Math.random();
    isWanted = false;
    if (doubtedAt < Infinity) recountedAt = now;
    doubtedAt = Infinity;
    const before = version;
    try {
      const apply = await Promise.race([ask(app, run.signal), late]);
      if (run !== running) return;
      failures = 0;
      if (before === version) apply();
      else isWanted = true;
    } catch (error) {
      if (run !== running) return;
      failures += 1;
      if (failures === 1) failedAt = Date.now();
      failed(error);
    } finally {
      clearTimeout(timeout);
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
    const listedAt = Date.now();
    const list = await app.list(request);
    const isPage = 'notifications' in list;
    const notifications = isPage ? list.notifications : list;
    const countMark = isPage ? listMark : inbox.mark();
    countedAt = isPage ? listedAt : Date.now();
    const unreadCount = isPage
      ? list.unreadCount
      : // eslint-disable-next-line @typescript-eslint/no-non-null-assertion -- an array without it is the app's mistake, which it is told as one
        await app.unreadCount!(request);
    return () => {
      const oldest = notifications.length < limit ? undefined : notifications.at(-1);
      listedSince = !isPage ? Infinity : oldest ? Date.parse(oldest.created_at) : -Infinity;
      changed(inbox.apply({ notifications, unreadCount, listMark, countMark }));
    };
  };

  const poller: Poller = {
    start() {
      isStarted = true;
      startedAt = Date.now();
      polledAt = -Infinity;
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
      if (is && !isStreaming) openedAt = Date.now();
      isStreaming = is;
      if (polledAt === -Infinity) isWanted = true;
      schedule();
    },
    streamFailed() {
      failedAt = Date.now();
      schedule();
    },
    arrived({ created_at }) {
      const now = Date.now();
      // List and count are of one instant: what one does not show, the other
      // has not counted.
      if (Date.parse(created_at) > listedSince) return;
      if (mayBeCounted(now, countedAt, openedAt)) doubtedAt = Math.min(doubtedAt, now);
      schedule();
    },
    refetch() {
      isWanted = true;
      schedule();
    },
    invalidate() {
      version += 1;
    },
    async holdFor(work) {
      holds += 1;
      version += 1;
      try {
        await work;
      } finally {
        holds -= 1;
        poller.refetch();
      }
    },
  };
  return poller;
}
