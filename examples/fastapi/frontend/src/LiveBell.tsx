import type { NotificationApi, NotificationRow } from '@notify-gateway/client';
import { NotificationBell, NotificationProvider } from '@notify-gateway/client/react';
import '@notify-gateway/client/style.css';
import { Toaster, toast } from 'sonner';
import { type NotificationPage, LIST, markAllAsRead, markAsRead, remove } from './notifications';
import { type Request, useSession } from './session';

export function LiveBell() {
  const { user, getToken, request, end } = useSession();

  return (
    <NotificationProvider
      url="/api/notifications/stream"
      user={user.id}
      token={getToken}
      api={createApi(request)}
      toast={toast}
      onAuthenticationError={end}
    >
      <div data-bell="live">
        <NotificationBell getHref={linkOf} />
        <Toaster theme="system" />
      </div>
    </NotificationProvider>
  );
}

function createApi(request: Request): NotificationApi {
  return {
    list: async ({ limit, signal }) => {
      const page = await request<NotificationPage>(`${LIST}?limit=${limit}`, { signal });
      return { notifications: page.notifications.map(toRow), unreadCount: page.unread_count };
    },
    markAsRead: (ids, { signal }) => markAsRead(request, ids, signal),
    markAllAsRead: ({ signal }) => markAllAsRead(request, signal),
    remove: (ids, { signal }) => Promise.all(ids.map((id) => remove(request, id, signal))),
  };
}

/** The package's row has two columns that this table does not have. */
function toRow(notification: NotificationPage['notifications'][number]) {
  return { ...notification, metadata: null, related_session_id: null };
}

/** `link` comes with the list and, because `watch()` names it, with the stream. */
function linkOf(notification: NotificationRow) {
  return (notification as NotificationRow & { link?: string | null }).link;
}
