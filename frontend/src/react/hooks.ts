import { useEffect, useRef, useSyncExternalStore } from 'react';
import { type ClientState, INITIAL_STATE, type NotificationClient } from '../client.js';
import type { Arrival, Notification } from '../notification.js';
import { useNotificationClient } from './provider.js';

/** The stream, as {@link useNotificationSSE} gives it. */
export interface NotificationStream extends Pick<ClientState, 'status' | 'reason' | 'failures'> {
  /** Whether notifications arrive as they are committed. */
  readonly isStreaming: boolean;
  /** Tries to stream now, however often it has failed. */
  readonly retry: () => void;
}

/**
 * How the stream is; and what comes in, once for each new notification, where
 * `onNotification` is given.
 */
export function useNotificationSSE(
  onNotification?: (notification: Notification, arrival: Arrival) => void,
): NotificationStream {
  const client = useNotificationClient();
  const latest = useRef(onNotification);
  useEffect(() => {
    latest.current = onNotification;
  });
  useEffect(
    () =>
      client.subscribe((arrived, arrival) => {
        if (arrived && arrival) latest.current?.(arrived, arrival);
      }),
    [client],
  );
  const status = useClientState(client, 'status');
  const reason = useClientState(client, 'reason');
  const failures = useClientState(client, 'failures');
  return { status, reason, failures, isStreaming: status === 'open', retry: client.retry };
}

/** The list, as {@link useNotifications} gives it. */
export interface Notifications
  extends
    Pick<ClientState, 'notifications' | 'unreadCount' | 'isLoaded' | 'error'>,
    Pick<NotificationClient, 'markAsRead' | 'markAllAsRead' | 'refresh'> {
  /** Whether the first list is on its way. */
  readonly isLoading: boolean;
}

/** The newest notifications, how many are unread, and what can be done about it. */
export function useNotifications(): Notifications {
  const client = useNotificationClient();
  const { markAsRead, markAllAsRead, refresh } = client;
  const notifications = useClientState(client, 'notifications');
  const unreadCount = useClientState(client, 'unreadCount');
  const isLoaded = useClientState(client, 'isLoaded');
  const error = useClientState(client, 'error');
  const isResting = useClientState(client, 'status') === 'stopped';
  const isLoading = !isLoaded && error === null && !isResting;
  const state = { notifications, unreadCount, isLoaded, isLoading, error };
  return { ...state, markAsRead, markAllAsRead, refresh };
}

/** The number on the badge; a component that shows nothing else draws nothing else. */
export function useUnreadCount(): number {
  return useClientState(useNotificationClient(), 'unreadCount');
}

/** One part of what the client knows. */
export function useClientState<K extends keyof ClientState>(
  client: NotificationClient,
  name: K,
): ClientState[K] {
  return useSyncExternalStore(
    client.subscribe,
    () => client.getState()[name],
    () => INITIAL_STATE[name],
  );
}
