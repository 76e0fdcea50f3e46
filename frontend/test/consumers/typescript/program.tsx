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

// A table of another shape: integer keys, no messages, a link.
declare module '@notify-gateway/client' {
  interface NotificationRow<Metadata> {
    readonly link: string | null;
  }
}
declare const rows: readonly {
  readonly id: number;
  readonly title: string;
  readonly status: 'read' | 'unread';
  readonly link: string | null;
  readonly created_at: string;
}[];
const api: NotificationApi = {
  list: () => Promise.resolve({ notifications: rows, unreadCount: 0 }),
  // @ts-expect-error: a mark takes the ids as text
  markAsRead: (ids: readonly number[]) => Promise.resolve(ids),
};

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

const bell: NotificationBellProps = {
  onSelect: ({ id }) => id.length,
  getHref: ({ link }) => link,
};

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
