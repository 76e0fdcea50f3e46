import {
  type NotificationClient,
  createNotificationClient,
  oneStreamPerBrowser,
} from '@notify-gateway/client';
import { type Dispatch, createListenerMiddleware, isAnyOf } from '@reduxjs/toolkit';
import { createApi } from '../your-app/api.ts';
import { getToken } from '../your-app/session.ts';
import { changed, read } from './notifications-slice.ts';
import { loggedIn, loggedOut } from './session-slice.ts';

/** A middleware for one store: it has the client of the user who is logged in there. */
export function createNotificationsListener() {
  const listener = createListenerMiddleware();
  let client: NotificationClient | undefined;
  let end: (() => void) | undefined;

  listener.startListening({
    matcher: isAnyOf(loggedIn, loggedOut),
    // No `await` before the former client has ended: it has no moment to write in.
    effect: (action, { dispatch }) => {
      end?.();
      client = end = undefined;
      if (!loggedIn.match(action)) return;
      client = createClient(action.payload);
      end = follow(client, dispatch);
    },
  });
  listener.startListening({
    actionCreator: read,
    // One that fails is taken back by the client's next poll.
    effect: ({ payload }) => client?.markAsRead(payload).catch(() => undefined),
  });
  return listener.middleware;
}

function createClient(user: string): NotificationClient {
  return createNotificationClient({
    url: '/api/notifications/stream',
    user,
    share: oneStreamPerBrowser(user),
    token: ({ fresh }) => getToken(user, fresh),
    api: createApi(user),
  });
}

/** Starts the client and writes each change to the store; the function it gives ends both. */
function follow(client: NotificationClient, dispatch: Dispatch): () => void {
  const unsubscribe = client.subscribe((event) => {
    // An event comes with no change of the state; a list of its own would be for toasts.
    if (event) return;
    const { status, notifications, unreadCount } = client.getState();
    dispatch(changed({ status, notifications, unreadCount }));
  });
  client.start();
  return () => {
    unsubscribe();
    client.stop();
  };
}
