// A program as strict as TypeScript can be; it is compiled, never run.
import '@notify-gateway/client/style.css';
import {
  type NotificationRow,
  type NotificationApi,
  NotificationClientError,
  createNotificationClient,
  oneStreamPerBrowser,
} from '@notify-gateway/client';
import { createNotificationClient as fromOneFile } from '@notify-gateway/client/browser';
import {
  NotificationBell,
  type NotificationBellProps,
  NotificationProvider,
  useUnreadCount,
} from '@notify-gateway/client/react';

declare const api: NotificationApi;

// `any` would take it, and would mean that the types were not found.
// @ts-expect-error: a url is missing
createNotificationClient({});
// @ts-expect-error: a url is missing
fromOneFile({});
// @ts-expect-error: neither a url nor a client
export const nothing = <NotificationProvider user="somebody" />;

export const client = createNotificationClient({
  url: '/api/notifications/stream',
  share: oneStreamPerBrowser('somebody'),
  api,
  onNotification: (notification: NotificationRow) => notification.title.length,
  onError: (error) => error instanceof NotificationClientError && error.status,
});

const bell: NotificationBellProps = { onSelect: ({ id }) => id.length };

function Count() {
  const count: number = useUnreadCount();
  return <p>{count}</p>;
}

export function App() {
  return (
    <NotificationProvider client={client}>
      <NotificationBell {...bell} />
      <Count />
    </NotificationProvider>
  );
}
