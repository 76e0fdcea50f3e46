import type { CallRequest, NotificationApi } from './api.js';
import { type Outward, type TokenProvider, createConnection } from './connection.js';
import { StreamRefusedError } from './errors.js';
import { fetchTransport } from './fetch-transport.js';
import { createInbox } from './inbox.js';
import type { Input, Reason, Status } from './machine.js';
import type { Arrival, Notification } from './notification.js';
import { listenToPage } from './page.js';
import { createPoller } from './poller.js';
import type { ShareStream, Sharing } from './sharing.js';
import type { Transport } from './transport.js';
import { isSameUser } from './user.js';

/** A glance at another tab is no reason to close a stream. */
const HIDDEN_MS = 30_000;
/** How often a leader shows that it lives, whatever its stream does. */
const PULSE_MS = 30_000;

/** What {@link createNotificationClient} takes. */
export interface ClientOptions {
  /** The gateway's stream, such as `/api/notifications/stream`. */
  readonly url: string;
  /**
   * Gives the bearer token; with {@link eventSourceTransport}, renews the
   * cookie. Asked again after a 401 and `token_expired`, and shortly before the
   * token ends. Without it the browser's cookies have to do.
   */
  readonly token?: TokenProvider | undefined;
  /** `fetchTransport()` by default. */
  readonly transport?: Transport | undefined;
  /** The app's REST API: the list and the count, and what is polled without a stream. */
  readonly api?: NotificationApi | undefined;
  /**
   * Who is logged in, as their token names them (`sub`): a stream of anybody else is dropped.
   * Without it, that of the first stream.
   */
  readonly user?: string | undefined;
  /** `false`: nobody is logged in yet. Nothing is streamed, polled or called. */
  readonly enabled?: boolean | undefined;
  /** `false` leaves polling only, as behind a feature flag. */
  readonly stream?: boolean | undefined;
  /** `oneStreamPerBrowser(user)` lets the tabs share a stream; without it each has its own. */
  readonly share?: ShareStream | undefined;
  /**
   * The gateway's `--heartbeat` in milliseconds, for one that does not say it itself: after
   * 2.5 of them in silence a stream is dead. 30 000 by default.
   */
  readonly heartbeatInterval?: number | undefined;
  /**
   * Closes the stream when the page has been out of view for half a minute, and goes on where
   * it was when it is looked at. Off by default: a hidden page then has no title, sound or
   * desktop notification to show meanwhile.
   */
  readonly closeWhenHidden?: boolean | undefined;
  /** How many of the newest notifications are kept, 20 by default. */
  readonly limit?: number | undefined;
  /**
   * Called once in each tab for each new notification, whichever way it came;
   * not for those that were there before.
   */
  readonly onNotification?: ((notification: Notification, arrival: Arrival) => void) | undefined;
  /**
   * The gateway refused even a fresh token, or there was none: show the login.
   * Nothing happens any more until `retry()` or `start()`.
   */
  readonly onAuthenticationError?: (() => void) | undefined;
  /**
   * The stream is not that of `user`, or of the user of before: somebody else has logged in,
   * in another tab perhaps. All that was known is forgotten, in every tab that shares the stream, and
   * nothing happens any more until `reset()` or `retry()`.
   */
  readonly onUserChanged?: (() => void) | undefined;
  /** A poll or a mark that failed; a {@link StreamRefusedError}, where the set-up seems to be wrong. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

/** Told of a change; of a new notification, where it is one. */
export type Listener = (arrived?: Notification, arrival?: Arrival) => void;

/** What the client knows; the same object until something changes. */
export interface ClientState {
  readonly status: Status;
  /** Why there is no stream, where `status` is `polling` or `stopped`. */
  readonly reason: Reason | null;
  /** Failed attempts in a row. */
  readonly failures: number;
  /** The newest, newest first. */
  readonly notifications: readonly Notification[];
  readonly unreadCount: number;
  /** Whether the list has been fetched once. */
  readonly isLoaded: boolean;
  /** What the app's API rejected the last poll with; null where it answered. */
  readonly error: unknown;
  /**
   * Another number for another user: what was kept of notifications under a former one is
   * to be forgotten. Different in each client, too.
   */
  readonly session: number;
}

/** The client, whatever draws it. Its functions may be passed around on their own. */
export interface NotificationClient {
  /** Begins; calling it again changes nothing. */
  readonly start: () => void;
  /** Closes the stream, stops polling and hands the lead to another tab. `start()` begins again. */
  readonly stop: () => void;
  /** Tries to stream now, however often it has failed. */
  readonly retry: () => void;
  /** Fetches the list and the count now. */
  readonly refresh: () => void;
  /** Forgets everything, and begins anew if it had begun: for another user. */
  readonly reset: () => void;
  /** Marks as read: here at once, then by the app's API; rejects when that fails. */
  readonly markAsRead: (ids: string | readonly string[]) => Promise<void>;
  /** Likewise all of them. */
  readonly markAllAsRead: () => Promise<void>;
  /**
   * Calls `listener` after each change, and for each new notification with it;
   * the function it gives ends that.
   */
  readonly subscribe: (listener: Listener) => () => void;
  readonly getState: () => ClientState;
}

/** How the stream is, as the tab that has it tells the others. */
type Link = Pick<ClientState, 'status' | 'reason' | 'failures'>;

const UNKNOWN: Link = { status: 'connecting', reason: null, failures: 0 };

/** What a client knows before it has begun, and what a server renders. */
export const INITIAL_STATE: ClientState = {
  ...UNKNOWN,
  notifications: [],
  unreadCount: 0,
  isLoaded: false,
  error: null,
  session: 0,
};

let sessions = 0;

/** Where the stream is, and whose it is. */
interface Place {
  readonly cursor: string;
  readonly owner: string;
  /** Until when the server has asked to be left alone, in milliseconds since 1970. */
  readonly holdUntil: number;
}

/** What a tab without the stream passes on to the one that has it. */
type Wake = 'retry' | 'wake';

/** What tabs tell each other. Another shape of these needs another number in `keyOf`. */
type Message =
  | { readonly type: 'hello' | 'refetch' | 'user_changed' | Wake }
  | ({ readonly type: 'link'; readonly link: Link } & Place)
  /** What the stream brought. */
  | ({ readonly type: 'brought'; readonly effect: Outward } & Place)
  | { readonly type: 'read'; readonly ids: readonly string[] | 'all' };

/** Makes a client; it does nothing before `start()`, so any place will do, a server too. */
export function createNotificationClient(options: ClientOptions): NotificationClient {
  const { url, limit = 20, heartbeatInterval = 30_000 } = options;
  const inbox = createInbox(limit);
  const listeners = new Set<Listener>();
  let session = ++sessions;
  let state: ClientState = { ...INITIAL_STATE, session };
  let link = UNKNOWN;
  let pollError: unknown = null;
  /** Where the shared stream is, for the day this tab leads. */
  let cursor = '';
  /** Whose it is, as the gateway says; empty before it has. */
  let owner = options.user ?? '';
  /** The server has asked to be left alone until then, by whichever tab. */
  let holdUntil = 0;
  let heardAt = -Infinity;
  let sharing: Sharing | null = null;
  /** Tells the stream, where this tab has it. */
  let stream: ((input: Input) => void) | null = null;
  let pulse: ReturnType<typeof setInterval> | undefined;
  /** Until a hidden page closes its stream; null: it has. */
  let hiding: ReturnType<typeof setTimeout> | null | undefined;
  /** Ends the listening to the page; null while stopped. */
  let unlisten: (() => void) | null = null;

  const poller = createPoller({
    api: () => options.api,
    inbox,
    limit,
    changed(news, arrival) {
      pollError = null;
      publish();
      // The oldest first, as they would have come.
      for (const row of news.reverse()) announce(row, arrival);
    },
    failed(error) {
      pollError = error;
      publish();
      reportError(error);
    },
    recovered() {
      wake('wake');
    },
  });

  const tell = (...arrived: [] | [Notification, Arrival]): void => {
    [...listeners].forEach((listener) => {
      guard(listener, ...arrived);
    });
  };
  const publish = (): void => {
    const { notifications, unreadCount, isLoaded } = inbox;
    const error = pollError;
    const next: ClientState = { ...link, notifications, unreadCount, isLoaded, error, session };
    const names = Object.keys(next) as (keyof ClientState)[];
    if (names.every((name) => next[name] === state[name])) return;
    state = next;
    tell();
  };
  const announce = (row: Notification, arrival: Arrival): void => {
    guard(options.onNotification, row, arrival);
    tell(row, arrival);
  };
  function reportError(error: unknown): void {
    guard(options.onError, error);
  }

  const post = (message: Message): void => {
    sharing?.post(message);
  };
  const postLink = (): void => {
    post({ type: 'link', link, cursor, owner, holdUntil });
  };

  const setLink = (next: Link): void => {
    const before = link;
    const isFailure = next.failures > before.failures;
    if (!isFailure && next.status === before.status && next.reason === before.reason) return;
    link = next;
    if (next.status === 'stopped') {
      poller.stop();
    } else {
      if (before.status === 'stopped') poller.start();
      if (isFailure) poller.streamFailed();
      if (next.status !== 'connecting') poller.setStreaming(next.status === 'open');
    }
    publish();
    if (next.reason === 'authentication') guard(options.onAuthenticationError);
    if (next.reason === 'user_changed') guard(options.onUserChanged);
  };

  const forget = (): void => {
    inbox.clear();
    cursor = '';
    owner = options.user ?? '';
    holdUntil = 0;
    pollError = null;
    session = ++sessions;
  };
  /** Another user has logged in: forgets what was known of the former one. */
  const userChanged = (): void => {
    leave();
    forget();
    setLink({ status: 'stopped', reason: 'user_changed', failures: 0 });
  };

  /** What the stream has brought, here or in another tab. */
  const take = (effect: Outward): void => {
    switch (effect.type) {
      case 'deliver':
        if (!inbox.receive(effect.row)) return;
        poller.arrived(effect.row);
        publish();
        if (effect.isNews) announce(effect.row, effect.arrival);
        break;
      case 'change':
        if (!inbox.change(effect.id, effect.row)) poller.doubt();
        poller.arrived(effect.row);
        publish();
        break;
      case 'refetch':
        poller.refetch();
        break;
      case 'report':
        reportError(new StreamRefusedError(url, effect.status));
    }
  };

  const lead = (): void => {
    unlead();
    const own = createConnection({
      url,
      token: () => options.token,
      transport: options.transport ?? fetchTransport(),
      cursor,
      user: owner,
      heardAt,
      heartbeat: heartbeatInterval,
      changed({ status, reason, failures, user, ...state }) {
        // The end of a stream that was given up is no news.
        if (stream !== own) return;
        if (reason === 'user_changed') {
          post({ type: 'user_changed' });
          userChanged();
          return;
        }
        ({ cursor, heardAt } = state);
        owner = user;
        // A stream that is being closed says itself when to come back.
        holdUntil = state.isClosing ? 0 : state.holdUntil;
        const before = link;
        setLink({ status, reason, failures });
        if (link === before) return;
        // Another tab may still be let in, and one that is opened after a login
        // must not find the lead in the hand of one that has stopped.
        if (status === 'stopped') leave();
        else postLink();
      },
      perform(effect, at) {
        post({ type: 'brought', effect, cursor: at, owner, holdUntil });
        take(effect);
      },
    });
    stream = own;
    // The others can tell a leader that is quiet from one that is suspended.
    pulse = setInterval(postLink, PULSE_MS);
    own({ type: 'start', holdUntil, isOff: link.reason === 'off' });
  };
  const unlead = (): void => {
    const own = stream;
    stream = null;
    clearInterval(pulse);
    own?.({ type: 'stop' });
  };

  const join = (): void => {
    leave();
    if (options.stream === false) {
      setLink({ status: 'polling', reason: 'disabled', failures: 0 });
      return;
    }
    const handlers = { lead, demoted: unlead, message: hear as (message: unknown) => void };
    sharing = options.share?.(url, handlers) ?? null;
    if (sharing) post({ type: 'hello' });
    else lead();
  };
  const leave = (): void => {
    unlead();
    sharing?.leave();
    sharing = null;
  };

  const hear = (message: Message): void => {
    switch (message.type) {
      case 'hello':
        if (stream) postLink();
        break;
      case 'retry':
      case 'wake':
        stream?.({ type: message.type });
        break;
      case 'refetch':
        poller.refetch();
        break;
      case 'read':
        poller.invalidate();
        inbox.read(message.ids);
        publish();
        break;
      case 'user_changed':
        userChanged();
        break;
      case 'brought':
        if (isOwn(message)) take(message.effect);
        follow(message);
        break;
      case 'link':
        if (follow(message)) setLink(message.link);
    }
  };
  /** Tabs that were opened for one user may stream as another. */
  const isOwn = (of: Place): boolean =>
    of.owner === '' || owner === '' || isSameUser(of.owner, owner);
  /** False where this tab has a stream as well, as two do while the lead is taken over. */
  const follow = (of: Place): boolean => {
    if (stream || !isOwn(of)) return false;
    ({ cursor, holdUntil } = of);
    owner = of.owner || owner;
    heardAt = Date.now();
    sharing?.heard();
    return true;
  };

  const wake = (type: Wake): void => {
    if (stream) stream({ type });
    else if (type === 'retry' && unlisten && link.status === 'stopped') join();
    else post({ type });
  };

  const mark = async (
    ids: readonly string[] | 'all',
    ask: (request: CallRequest) => Promise<unknown> | undefined,
  ): Promise<void> => {
    inbox.read(ids);
    publish();
    post({ type: 'read', ids });
    try {
      await poller.mark(ids, (signal) => ask({ signal }));
    } catch (error) {
      reportError(error);
      throw error;
    } finally {
      post({ type: 'refetch' });
    }
  };

  const listen = (): (() => void) =>
    listenToPage({
      looked(isVisible) {
        poller.setAwake(isVisible);
        const wasClosed = hiding === null;
        clearTimeout(hiding ?? undefined);
        hiding = undefined;
        if (isVisible && wasClosed) join();
        else if (isVisible) wake('wake');
        else if (options.closeWhenHidden) {
          hiding = setTimeout(() => {
            hiding = null;
            leave();
          }, HIDDEN_MS);
        }
      },
      online() {
        stream?.({ type: 'online' });
        if (link.status !== 'open') poller.refetch();
      },
      // A page that may come back by the back button is kept as it is, but not
      // with a lock or a stream in its hand; and another tab is to lead at once.
      left: leave,
      restored() {
        poller.refetch();
        if (link.reason !== 'user_changed') join();
      },
    });

  const begin = (): void => {
    link = UNKNOWN;
    poller.start();
    join();
    publish();
  };

  return {
    start() {
      if (unlisten) return;
      if (options.enabled === false) {
        setLink({ status: 'stopped', reason: 'disabled', failures: 0 });
        return;
      }
      unlisten = listen();
      begin();
    },
    stop() {
      unlisten?.();
      unlisten = null;
      clearTimeout(hiding ?? undefined);
      hiding = undefined;
      leave();
      setLink({ status: 'stopped', reason: null, failures: 0 });
    },
    retry() {
      wake('retry');
    },
    refresh() {
      poller.refetch();
    },
    reset() {
      poller.stop();
      forget();
      if (unlisten) begin();
      else publish();
    },
    async markAsRead(ids) {
      const list = typeof ids === 'string' ? [ids] : ids;
      await mark(list, (request) => options.api?.markAsRead?.(list, request));
    },
    async markAllAsRead() {
      await mark('all', (request) => options.api?.markAllAsRead?.(request));
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
    getState: () => state,
  };
}

/** An error in the app's code must not end the stream it came from; it is the page's all the same. */
function guard<T extends unknown[]>(call: ((...args: T) => void) | undefined, ...args: T): void {
  try {
    call?.(...args);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
