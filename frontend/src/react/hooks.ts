import { useEffect, useRef, useSyncExternalStore } from 'react';
import type { ActionName } from '../api.js';
import type { ClientEvent, NotificationClient } from '../client.js';
import type { Arrival, NotificationRow } from '../notification.js';
import type { ClientState } from '../state.js';
import { useNotificationClient } from './provider.js';
import { useStreamSettings } from './stream-settings.js';

/** Called for a new notification. */
export type OnNotification<Metadata = unknown> = (
  notification: NotificationRow<Metadata>,
  arrival: Arrival,
) => void;

/** What {@link useNotificationSSE} takes. */
export interface StreamOptions<Metadata = unknown> {
  /** `false` closes the stream and leaves polling, as behind a feature flag. */
  readonly enabled?: boolean | undefined;
  /** After how many failed attempts in a row the client polls, and streams but now and then. */
  readonly maxReconnectAttempts?: number | undefined;
  /** As the provider's: a poll or an action that failed, or a mistake in the set-up. */
  readonly onError?: ((error: unknown, action?: ActionName) => void) | undefined;
  /** Once for each new notification. */
  readonly onNotification?: OnNotification<Metadata> | undefined;
}

/** The stream, as {@link useNotificationSSE} gives it. */
export interface NotificationStream extends Pick<ClientState, 'status' | 'reason' | 'failures'> {
  /** Whether notifications arrive as they are committed. */
  readonly isStreaming: boolean;
  /** The same. */
  readonly isConnected: boolean;
  /** The same as `failures`. */
  readonly reconnectAttempts: number;
  /** Tries to stream now, however often it has failed. */
  readonly retry: () => void;
  /** Streams again after `disconnect()`. */
  readonly connect: () => void;
  /** Closes the stream and polls. */
  readonly disconnect: () => void;
}

/**
 * How the stream is; and what comes in, where a function, or `onNotification` among the
 * options, is given.
 */
export function useNotificationSSE<Metadata = unknown>(
  given?: OnNotification<Metadata> | StreamOptions<Metadata>,
): NotificationStream {
  const options: StreamOptions<Metadata> =
    typeof given === 'function' ? { onNotification: given } : (given ?? {});
  const { enabled, maxReconnectAttempts } = options;
  const client = useNotificationClient<Metadata>();
  const { retry, connect, disconnect } = client;
  useStreamSettings(client, enabled, maxReconnectAttempts);
  useClientEvents(client, (event) => {
    const { onNotification, onError } = options;
    if (event.type === 'notification') onNotification?.(event.notification, event.arrival);
    else if (event.type === 'error') onError?.(event.error, event.action);
  });
  const status = useClientState(client, 'status');
  const reason = useClientState(client, 'reason');
  const failures = useClientState(client, 'failures');
  const isStreaming = status === 'open';
  const state = { status, reason, failures, isStreaming };
  const names = { isConnected: isStreaming, reconnectAttempts: failures };
  return { ...state, ...names, retry, connect, disconnect };
}

/**
 * Calls `onNotification` for each new notification in one tab of the browser only: the one
 * that leads, which is one that is looked at where there is any. For sounds, desktop
 * notifications and whatever else is to happen once.
 *
 * Tabs that share no stream (no `user`, plain HTTP) each lead.
 *
 * @returns whether this tab leads.
 */
export function useOncePerBrowser<Metadata = unknown>(
  onNotification?: OnNotification<Metadata>,
): boolean {
  const client = useNotificationClient<Metadata>();
  useClientEvents(client, (event) => {
    if (event.type !== 'notification' || !client.getState().isLeading) return;
    onNotification?.(event.notification, event.arrival);
  });
  return useClientState(client, 'isLeading');
}

/** The list, as {@link useNotifications} gives it. */
export interface Notifications<Metadata = unknown>
  extends
    Pick<
      ClientState<Metadata>,
      | 'notifications'
      | 'unreadCount'
      | 'unseenCount'
      | 'isLoaded'
      | 'hasMore'
      | 'isFetchingMore'
      | 'error'
    >,
    Pick<
      NotificationClient,
      | 'can'
      | 'markAsRead'
      | 'markAsUnread'
      | 'archive'
      | 'remove'
      | 'markAllAsRead'
      | 'markAllAsSeen'
      | 'fetchMore'
      | 'refresh'
    > {
  /** Whether the first list is on its way. */
  readonly isLoading: boolean;
}

/** The newest notifications, how many are unread, and what can be done about it. */
export function useNotifications<Metadata = unknown>(): Notifications<Metadata> {
  const client = useNotificationClient<Metadata>();
  const state = useSyncExternalStore(client.subscribe, client.getState, client.getInitialState);
  const { isLoaded, error, status } = state;
  const isLoading = !isLoaded && error === null && status !== 'stopped';
  return { ...client, ...state, isLoading };
}

/** The list and the stream in one. */
export function useNotificationContext<Metadata = unknown>(): Notifications<Metadata> &
  NotificationStream {
  return { ...useNotifications<Metadata>(), ...useNotificationSSE() };
}

/** The number on the badge; a component that shows nothing else draws nothing else. */
export function useUnreadCount(): number {
  return useClientState(useNotificationClient(), 'unreadCount');
}

/** Calls the `listener` of the last render with each event. */
export function useClientEvents<Metadata>(
  { subscribe }: NotificationClient<Metadata>,
  listener: (event: ClientEvent<Metadata>) => void,
): void {
  const latest = useRef(listener);
  useEffect(() => {
    latest.current = listener;
  });
  useEffect(
    () =>
      subscribe((event) => {
        if (event) latest.current(event);
      }),
    [subscribe],
  );
}

/** One part of what the client knows. */
export function useClientState<Metadata, K extends keyof ClientState>(
  client: NotificationClient<Metadata>,
  name: K,
): ClientState<Metadata>[K] {
  return useSyncExternalStore(
    client.subscribe,
    () => client.getState()[name],
    () => client.getInitialState()[name],
  );
}
