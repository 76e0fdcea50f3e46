import type { ActionName, ApiRequest, CallRequest, NotificationApi, Page } from './api.js';
import { createClock } from './clock.js';
import { NotificationClientError } from './errors.js';
import type { Edit, Inbox, Snapshot } from './inbox.js';
import { LIVE_MS } from './machine.js';
import type { Arrival, ListedRow, NotificationRow } from './notification.js';
import { type Schedule, UNSCHEDULED, mayBeCounted, pollDueAt } from './polling.js';
import { within } from './within.js';

/** A call of the app's API that takes longer has failed: a hanging request must not be the last. */
const CALL_TIMEOUT_MS = 30_000;

interface Options {
  /** Looked up each time: a component's object is another in each render. */
  readonly api: () => NotificationApi | undefined;
  readonly inbox: Inbox;
  /** A poll has changed the inbox; `news` are rows that are new in it. */
  readonly changed: (news: NotificationRow[], arrival: Arrival) => void;
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
  arrived(row: NotificationRow | null): void;
  /** What the stream brought is not enough to know the count by. */
  doubt(): void;
  /** Asks for a poll that begins no earlier than now. */
  refetch(): void;
  /** Rows were edited: what a poll under way will say is out of date. */
  invalidate(): void;
  /**
   * Has the API do what the user does. What a poll says meanwhile must not bring back what
   * has just been edited here.
   */
  perform(edit: Edit, api: NotificationApi | undefined): Promise<void>;
}

/** A poller that has not begun. */
export function createPoller(options: Options): Poller {
  const { api, inbox, changed, failed, recovered } = options;
  const clock = createClock();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isStarted = false;
  let isAwake = true;
  let running: AbortController | null = null;
  /** Aborts the user's actions that the API has not answered when polling stops. */
  let ending = new AbortController();
  /** What the API is being told: a poll that it answers meanwhile need not know of it. */
  const pending = new Set<Edit>();
  let failures = 0;
  /** Counts what is done to rows here; a poll across such a change is void. */
  let version = 0;
  let random = 0;
  let when: Schedule = UNSCHEDULED;
  /** When the last list that was shown was asked for. */
  let foundAt = -Infinity;
  let countedAt = -Infinity;
  let openedAt = -Infinity;
  /** Back to which time the last list shows every row its count has counted. */
  let listedSince = Infinity;
  /** The time of the oldest row that the stream has brought since the running poll asked. */
  let oldestMeanwhile = Infinity;

  /** Looks again when the next poll is due, after something has changed about it. */
  const schedule = (change: Partial<Schedule> = {}): void => {
    when = { ...when, ...change };
    clearTimeout(timer);
    const app = api();
    if (!app || !isStarted || !isAwake || running) return;
    const now = clock();
    const left = pollDueAt(when, random) - now;
    if (left <= 0) void poll(app, now);
    else timer = setTimeout(schedule, left);
  };

  const poll = async (app: NotificationApi, now: number): Promise<void> => {
    const run = new AbortController();
    running = run;
    random = Math.random();
    const { doubtedAt, recountedAt } = when;
    when = {
      ...when,
      polledAt: now,
      isWanted: false,
      doubtedAt: Infinity,
      recountedAt: doubtedAt < Infinity ? now : recountedAt,
    };
    const before = version;
    try {
      const apply = await within(CALL_TIMEOUT_MS, (signal) => ask(app, signal), run.signal);
      if (run !== running) return;
      const hadFailed = failures > 0;
      failures = 0;
      if (before === version) apply();
      else when = { ...when, isWanted: true };
      if (hadFailed) recovered();
    } catch (error) {
      if (run !== running) return;
      failures += 1;
      if (failures === 1) when = { ...when, failedAt: clock() };
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
    const request: ApiRequest = { limit: inbox.limit, signal };
    const listMark = inbox.mark();
    const listedAt = clock();
    oldestMeanwhile = Infinity;
    const answer = await app.list(request);
    const isPage = 'notifications' in Object(answer);
    const countMark = isPage ? listMark : inbox.mark();
    countedAt = isPage ? listedAt : clock();
    const page = isPage
      ? (answer as Page)
      : {
          notifications: answer as readonly ListedRow[],
          unreadCount: (await app.unreadCount?.(request)) ?? NaN,
        };
    const snapshot: Snapshot = { ...page, limit: request.limit, listMark, countMark };
    check(snapshot);
    return () => {
      const { notifications } = page;
      const oldest = notifications.length < request.limit ? undefined : notifications.at(-1);
      listedSince = !isPage ? Infinity : oldest ? Date.parse(oldest.created_at) : -Infinity;
      // Too old for the list, it may be in the count all the same.
      const hasOlder = oldestMeanwhile !== Infinity && !(oldestMeanwhile > listedSince);
      if (isPage && hasOlder) poller.doubt();
      const news = inbox.apply(snapshot);
      pending.forEach(inbox.edit);
      changed(news, { live: listedAt - foundAt < LIVE_MS });
      foundAt = listedAt;
    };
  };

  const poller: Poller = {
    start() {
      isStarted = true;
      ending = new AbortController();
      failures = 0;
      pending.clear();
      schedule({ startedAt: clock(), polledAt: -Infinity, doubtedAt: Infinity });
    },
    stop() {
      isStarted = false;
      ending.abort();
      running?.abort();
      running = null;
      clearTimeout(timer);
    },
    setAwake(is) {
      isAwake = is;
      schedule();
    },
    setStreaming(isStreaming) {
      if (isStreaming && !when.isStreaming) openedAt = clock();
      schedule({ isStreaming, isWanted: when.isWanted || when.polledAt === -Infinity });
    },
    streamFailed() {
      schedule({ failedAt: clock() });
    },
    arrived(row) {
      const time = row ? Date.parse(row.created_at) : Infinity;
      oldestMeanwhile = Math.min(oldestMeanwhile, time);
      // List and count are of one instant: what one does not show, the other
      // has not counted.
      if (time > listedSince) return;
      if (mayBeCounted(clock(), countedAt, openedAt)) poller.doubt();
    },
    doubt() {
      schedule({ doubtedAt: Math.min(when.doubtedAt, clock()) });
    },
    refetch() {
      schedule({ isWanted: true });
    },
    invalidate() {
      version += 1;
    },
    async perform(edit, app) {
      const work = (signal: AbortSignal): Promise<unknown> =>
        Promise.resolve(call(app, edit, { signal }));
      // That the list was seen changes nothing in it.
      if (edit.action === 'markAllAsSeen') {
        await within(CALL_TIMEOUT_MS, work, ending.signal);
        return;
      }
      pending.add(edit);
      version += 1;
      try {
        await within(CALL_TIMEOUT_MS, work, ending.signal);
      } finally {
        pending.delete(edit);
        version += 1;
        poller.refetch();
      }
    },
  };
  return poller;
}

function call(
  api: NotificationApi | undefined,
  { action, ids }: Edit,
  request: CallRequest,
): Promise<unknown> | undefined {
  return ids
    ? api?.[action as Exclude<ActionName, `markAll${string}`>]?.(ids, request)
    : api?.[action as Extract<ActionName, `markAll${string}`>]?.(request);
}

/** The app's answer is whatever its server sent. */
function check({ notifications, unreadCount }: Snapshot): void {
  const rows: unknown = notifications;
  const isList =
    Array.isArray(rows) && rows.every((row: { id?: unknown } | null) => row?.id != null);
  if (isList && Number.isFinite(unreadCount)) return;
  const what = isList ? 'a number for unreadCount' : 'a list of rows with an id';
  throw new NotificationClientError('api_answer', `the api option has to give ${what}`);
}
