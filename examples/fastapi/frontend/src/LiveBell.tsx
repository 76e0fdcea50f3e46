import type { NotificationApi } from '@notify-gateway/client';
import { NotificationBell, NotificationProvider } from '@notify-gateway/client/react';
import '@notify-gateway/client/style.css';
import { Toaster, toast } from 'sonner';
import { type NotificationPage, LIST, markAllAsRead, markAsRead, remove } from './notifications';
import { type Request, useSession } from './session';

declare module '@notify-gateway/client' {
  interface NotificationRow<Metadata> {
    readonly link: string | null;
  }
}

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
        <NotificationBell getHref={({ link }) => link} />
        <Toaster theme="system" />
      </div>
    </NotificationProvider>
  );
}

function createApi(request: Request): NotificationApi {
  return {
    list: async ({ limit, signal }) => {
      const page = await request<NotificationPage>(`${LIST}?limit=${limit}`, { signal });
      return { notifications: page.notifications, unreadCount: page.unread_count };
    },
    markAsRead: (ids, { signal }) => markAsRead(request, ids, signal),
    markAllAsRead: ({ signal }) => markAllAsRead(request, signal),
    remove: (ids, { signal }) => Promise.all(ids.map((id) => remove(request, id, signal))),
  };
}
