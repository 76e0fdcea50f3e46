/**
 * A client without a gateway, for the tests of an app.
 *
 * @packageDocumentation
 */
import type { ActionName } from './api.js';
import type { ClientEvent, NotificationClient } from './client.js';
import type { Arrival, NotificationRow } from './notification.js';
import type { ClientState } from './state.js';
import { createStore } from './store.js';

/** One call of an action. */
export interface FakeCall {
  readonly action: ActionName;
  /** Empty where it is about all of them. */
  readonly ids: readonly string[];
}

/** A client that shows what a test says, and keeps what it is asked to do. */
export interface FakeClient<Metadata = unknown> extends NotificationClient<Metadata> {
  /** The actions so far, in their order. They change nothing by themselves. */
  readonly calls: readonly FakeCall[];
  /** The state is another. */
  readonly setState: (change: Partial<ClientState<Metadata>>) => void;
  /** A notification comes: it is the first of the list, and it is announced. */
  readonly arrive: (
    notification: Partial<NotificationRow<Metadata>>,
    arrival?: Partial<Arrival>,
  ) => void;
  /** Something has failed, as `onError` is told. */
  readonly fail: (error: unknown, action?: ActionName) => void;
}

const STATE: ClientState<never> = {
  status: 'open',
  reason: null,
  failures: 0,
  notifications: [],
  unreadCount: 0,
  unseenCount: 0,
  isLoaded: true,
  hasMore: false,
  isFetchingMore: false,
  error: null,
  isLeading: true,
  session: 1,
};

/**
 * Makes a client for `<NotificationProvider client={…}>`, or for whatever else takes one.
 * Its stream is open, its list loaded and empty, unless `state` says otherwise.
 */
export function createFakeClient<Metadata = unknown>(
  state: Partial<ClientState<Metadata>> = {},
): FakeClient<Metadata> {
  let current: ClientState<Metadata> = { ...STATE, ...state };
  const calls: FakeCall[] = [];
  const { publish, tell, ...store } = createStore<ClientState<Metadata>, ClientEvent<Metadata>>(
    () => current,
  );
  const setState = (change: Partial<ClientState<Metadata>>): void => {
    current = { ...current, ...change };
    publish();
  };
  const act =
    (action: ActionName) =>
    (ids: string | readonly string[] = []): Promise<void> => {
      calls.push({ action, ids: typeof ids === 'string' ? [ids] : ids });
      return Promise.resolve();
    };
  const nothing = (): void => undefined;
  return {
    ...store,
    calls,
    setState,
    arrive(given, arrival) {
      const notification = {
        id: `fake ${current.notifications.length + 1}`,
        type: 'info',
        title: '',
        message: '',
        status: 'unread',
        metadata: null,
        created_at: new Date().toISOString(),
        related_session_id: null,
        ...given,
      } as NotificationRow<Metadata>;
      const more = notification.status === 'unread' ? 1 : 0;
      setState({
        notifications: [notification, ...current.notifications],
        unreadCount: current.unreadCount + more,
        unseenCount: current.unseenCount + more,
      });
      tell({ type: 'notification', notification, arrival: { live: true, ...arrival } });
    },
    fail(error, action) {
      tell({ type: 'error', error, action });
    },
    start: nothing,
    stop: nothing,
    retry: nothing,
    connect: nothing,
    disconnect: nothing,
    setMaxReconnectAttempts: nothing,
    refresh: nothing,
    fetchMore: nothing,
    reset: nothing,
    can: () => true,
    markAsRead: act('markAsRead'),
    markAsUnread: act('markAsUnread'),
    archive: act('archive'),
    remove: act('remove'),
    markAllAsRead: () => act('markAllAsRead')(),
    markAllAsSeen: () => act('markAllAsSeen')(),
  };
}
