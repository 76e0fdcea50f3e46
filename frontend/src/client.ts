import type { ActionName } from './api.js';
import type { Outward } from './connection.js';
import { NotificationClientError } from './errors.js';
import { fetchTransport } from './fetch-transport.js';
import { guard } from './guard.js';
import { type Edit, createInbox } from './inbox.js';
import { MAX_FAILURES } from './machine.js';
import type { Arrival, NotificationRow } from './notification.js';
import type { ClientOptions } from './options.js';
import { listenToPage } from './page.js';
import { createPoller } from './poller.js';
import type { ClientState } from './state.js';
import { createStore } from './store.js';
import { createStream } from './stream.js';
import { isSameUser } from './user.js';
import { warn } from './warn.js';

/** Bundlers put the mode in its place; `dist/notify-gateway.min.js` has it replaced. */
declare const process: { readonly env: { readonly NODE_ENV?: string } };

/** What has happened besides a change of the state. */
export type ClientEvent<Metadata = unknown> =
  | {
      readonly type: 'notification';
      readonly notification: NotificationRow<Metadata>;
      readonly arrival: Arrival;
    }
  /** A row is another now, or (`null`) gone, whether it is listed or not. */
  | {
      readonly type: 'change';
      readonly id: string;
      readonly notification: NotificationRow<Metadata> | null;
    }
  /** What `onError` is told. */
  | {
      readonly type: 'error';
      readonly error: unknown;
      readonly action: ActionName | undefined;
    };

/** Told of a change, or of an event. */
export type Listener<Metadata = unknown> = (event?: ClientEvent<Metadata>) => void;

/** The client, whatever draws it. Its functions may be passed around on their own. */
export interface NotificationClient<Metadata = unknown> {
  /** Begins; calling it again changes nothing. */
  readonly start: () => void;
  /** Closes the stream, stops polling and hands the lead to another tab. `start()` begins again. */
  readonly stop: () => void;
  /** Tries to stream now, however often it has failed. */
  readonly retry: () => void;
  /** Streams again after `disconnect()`; tries to otherwise. */
  readonly connect: () => void;
  /** Closes the stream and polls. */
  readonly disconnect: () => void;
  /** Another number in the place of the option `maxReconnectAttempts`. */
  readonly setMaxReconnectAttempts: (attempts: number) => void;
  /** Fetches the list and the count now. */
  readonly refresh: () => void;
  /** Fetches older notifications too; `isFetchingMore` tells while they are on their way. */
  readonly fetchMore: () => void;
  /** Forgets everything, and begins anew if it had begun: for another user. */
  readonly reset: () => void;
  /** Whether the app's API has this action. Without an API, marks are kept on the page alone. */
  readonly can: (action: ActionName) => boolean;
  /** Marks as read: here at once, then by the app's API; rejects when that fails. So do all the following. */
  readonly markAsRead: (ids: string | readonly string[]) => Promise<void>;
  /** Marks as unread. */
  readonly markAsUnread: (ids: string | readonly string[]) => Promise<void>;
  /** Takes out of the list, which the app keeps elsewhere. */
  readonly archive: (ids: string | readonly string[]) => Promise<void>;
  /** Deletes. */
  readonly remove: (ids: string | readonly string[]) => Promise<void>;
  /** Marks all as read, listed or not. */
  readonly markAllAsRead: () => Promise<void>;
  /** The user has seen the list: `unseenCount` is zero until the next one comes. */
  readonly markAllAsSeen: () => Promise<void>;
  /**
   * Calls `listener` after each change, and for each event with it; the function it gives
   * ends that.
   */
  readonly subscribe: (listener: Listener<Metadata>) => () => void;
  readonly getState: () => ClientState<Metadata>;
  /** What `getState()` gave before `start()`: what a server renders. */
  readonly getInitialState: () => ClientState<Metadata>;
}

let sessions = 0;

/**
 * Makes a client; it does nothing before `start()`, so any place will do, a server too.
 *
 * @typeParam Metadata What the app keeps in a row's `metadata`. It is not checked.
 */
export const createNotificationClient = create as <Metadata = unknown>(
  options: ClientOptions<Metadata>,
) => NotificationClient<Metadata>;

function create(options: ClientOptions): NotificationClient {
  const { url: given, limit = 20, maxLimit = 200, initialData } = options;
  const url = typeof given === 'function' ? given : (): string => given;
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-conversion -- an app's keys may be numbers, whatever the type says
  const user = String(options.user ?? '');
  const inbox = createInbox(limit);
  let session = ++sessions;
  let pollError: unknown = null;
  let wantsStream = options.stream !== false;
  let maxFailures = options.maxReconnectAttempts ?? MAX_FAILURES;
  /** Ends the listening to the page; null while stopped. */
  let unlisten: (() => void) | null = null;
  /** A page that is out of view has closed its stream. */
  let isAway = false;
  let wasOpen = false;

  const own = initialData && isSameUser(initialData.user, user) ? initialData : null;
  if (own) inbox.apply({ ...own, limit, listMark: 0, countMark: 0 });

  const stream = createStream({
    url,
    token: () => options.token,
    transport: () => options.transport ?? fetchTransport(),
    maxFailures: () => maxFailures,
    share: options.share,
    cursor: own?.cursor ?? '',
    user,
    heartbeat: options.heartbeatInterval ?? 30_000,
    linked({ status, reason, failures }, before) {
      options.logger?.debug?.(
        `stream: ${reason ?? status}${failures ? `, ${failures} failures` : ''}`,
      );
      wasOpen ||= status === 'open';
      if (status === 'stopped') {
        poller.stop();
      } else {
        if (before.status === 'stopped') poller.start();
        if (failures > before.failures) poller.streamFailed();
        if (status !== 'connecting') poller.setStreaming(status === 'open');
      }
      publish();
      if (reason === 'authentication') guard(options.onAuthenticationError);
      if (reason === 'user_changed') guard(options.onUserChanged);
    },
    changed() {
      publish();
    },
    brought: take,
    failed: reportError,
    userChanged() {
      if (process.env.NODE_ENV !== 'production' && user !== '' && !wasOpen) {
        warn(
          options.logger,
          'the gateway says that the stream is of somebody else than the option `user`: give ' +
            'the id of the user as the token names it (`sub`).',
        );
      }
      forget();
      stream.rest('stopped', 'user_changed');
    },
    told(message) {
      if (message === 'refetch') {
        poller.refetch();
      } else {
        poller.invalidate();
        inbox.edit(message as Edit);
        publish();
      }
    },
  });

  const poller = createPoller({
    api: () => options.api,
    inbox,
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
      stream.wake('wake');
    },
  });

  const { publish, tell, ...store } = createStore<ClientState, ClientEvent>(() => {
    const { notifications, unreadCount, unseenCount, isLoaded, hasMore, isFetchingMore } = inbox;
    const hasApi = options.api !== undefined;
    return {
      ...stream.link,
      notifications,
      unreadCount,
      unseenCount,
      // Without an API there is nothing to wait for.
      isLoaded: isLoaded || !hasApi,
      hasMore: hasMore && inbox.limit < maxLimit && hasApi,
      isFetchingMore: isFetchingMore && pollError === null && hasApi,
      error: pollError,
      isLeading: unlisten !== null && stream.isLeading,
      session,
    };
  });
  const announce = (notification: NotificationRow, arrival: Arrival): void => {
    guard(options.onNotification, notification, arrival);
    tell({ type: 'notification', notification, arrival });
  };
  function reportError(error: unknown, action?: ActionName): void {
    if (process.env.NODE_ENV !== 'production') {
      const isMistake = error instanceof NotificationClientError;
      if (isMistake || !options.onError) warn(options.logger, String(error));
    }
    guard(options.onError, error, action);
    tell({ type: 'error', error, action });
  }

  function forget(): void {
    inbox.clear(limit);
    stream.forget();
    pollError = null;
    session = ++sessions;
  }

  /** What the stream has brought, here or in another tab. */
  function take(effect: Outward): void {
    switch (effect.type) {
      case 'deliver':
        if (inbox.hasChanged(effect.row.id)) poller.doubt();
        if (!inbox.receive(effect.row)) return;
        poller.arrived(effect.row);
        publish();
        if (effect.isNews) announce(effect.row, effect.arrival);
        break;
      case 'change':
        if (!inbox.change(effect.id, effect.row)) poller.doubt();
        poller.arrived(effect.row);
        publish();
        tell({ type: 'change', id: effect.id, notification: effect.row });
        break;
      case 'refetch':
        poller.refetch();
        guard(options.onResync, effect.reason);
        break;
      case 'report':
        report(effect);
    }
  }
  const report = ({ status, problem }: Extract<Outward, { type: 'report' }>): void => {
    const detail = problem?.detail ?? problem?.title ?? '';
    if (status !== 401) {
      // What follows a question mark may be a secret of the app's.
      const [address = ''] = url().split('?');
      const message = `${address} answers ${status} and no stream: does it reach the gateway? ${detail}`;
      reportError(new NotificationClientError('stream_refused', message, status, problem));
    } else if (process.env.NODE_ENV !== 'production') {
      warn(options.logger, `the gateway refuses a token that was asked for anew. ${detail}`);
    }
  };

  const join = (): void => {
    if (wantsStream) stream.join();
    else stream.rest('polling', 'disabled');
  };
  const retry = (): void => {
    if (unlisten && stream.link.status === 'stopped') join();
    else stream.wake('retry');
  };

  const hasAction = (action: ActionName): boolean => typeof options.api?.[action] === 'function';
  const act = async (action: ActionName, ids?: string | readonly string[]): Promise<void> => {
    const list = typeof ids === 'string' ? [ids] : ids;
    const edit: Edit = { action, ids: list, until: inbox.newest() };
    const of = session;
    inbox.edit(edit);
    publish();
    stream.post(edit);
    if (!hasAction(action)) return;
    try {
      await poller.perform(edit, options.api);
    } catch (error) {
      // What a former user did is no concern of the next one's.
      if (unlisten && of === session) reportError(error, action);
      throw error;
    } finally {
      if (action !== 'markAllAsSeen') stream.post('refetch');
    }
  };

  const listen = (): (() => void) =>
    listenToPage({
      looked(isVisible) {
        poller.setAwake(isVisible);
        if (!isVisible) return;
        if (isAway) join();
        else stream.wake('wake');
        isAway = false;
      },
      away() {
        isAway = options.closeWhenHidden === true && stream.link.status !== 'stopped';
        if (isAway) stream.leave();
      },
      online() {
        stream.online();
        if (stream.link.status !== 'open') poller.refetch();
      },
      // A page that may come back by the back button is kept as it is, but not
      // with a lock or a stream in its hand; and another tab is to lead at once.
      left: stream.leave,
      restored() {
        poller.refetch();
        if (stream.link.status !== 'stopped') join();
      },
    });

  const begin = (): void => {
    poller.start();
    if (wantsStream) stream.begin();
    else join();
    publish();
  };

  return {
    start() {
      if (unlisten) return;
      if (options.enabled === false) {
        stream.rest('stopped', 'disabled');
        return;
      }
      if (process.env.NODE_ENV !== 'production' && user === '' && !options.share) {
        warn(
          options.logger,
          'without the option `user` each tab has a stream of its own, and another login is ' +
            'noticed late. Give the id of the user as the token names it (`sub`).',
        );
      }
      unlisten = listen();
      begin();
    },
    stop() {
      unlisten?.();
      unlisten = null;
      isAway = false;
      stream.rest('stopped', null);
    },
    retry,
    connect() {
      const isNew = !wantsStream;
      wantsStream = true;
      if (!isNew) retry();
      else if (unlisten) join();
    },
    disconnect() {
      wantsStream = false;
      if (unlisten && stream.link.status !== 'stopped') join();
    },
    setMaxReconnectAttempts(attempts) {
      maxFailures = attempts;
    },
    refresh() {
      poller.refetch();
    },
    fetchMore() {
      const { hasMore, isFetchingMore } = store.getState();
      if (!hasMore || isFetchingMore) return;
      inbox.limit = Math.min(inbox.limit + limit, maxLimit);
      poller.refetch();
      publish();
    },
    reset() {
      poller.stop();
      forget();
      if (unlisten) begin();
      else publish();
    },
    can: (action) => (options.api ? hasAction(action) : action.startsWith('mark')),
    markAsRead: (ids) => act('markAsRead', ids),
    markAsUnread: (ids) => act('markAsUnread', ids),
    archive: (ids) => act('archive', ids),
    remove: (ids) => act('remove', ids),
    markAllAsRead: () => act('markAllAsRead'),
    markAllAsSeen: () => act('markAllAsSeen'),
    ...store,
  };
}
