'use client';

import {
  type InitialData,
  type NotificationApi,
  type Page,
  eventSourceTransport,
} from '@notify-gateway/client';
import { NotificationProvider } from '@notify-gateway/client/react';
import { useRouter } from 'next/navigation';
import { type ReactNode, useMemo } from 'react';

function createApi(user: string): NotificationApi {
  const call = async (path: string, init: RequestInit): Promise<Response> => {
    const response = await fetch(`/api/notifications${path}user=${user}`, init);
    if (!response.ok) throw new Error(`the API answers ${response.status}`);
    return response;
  };
  const markAsRead = (ids: readonly string[] | null, signal: AbortSignal): Promise<Response> =>
    call('/read?', { method: 'POST', body: JSON.stringify({ ids }), signal });
  return {
    list: async ({ limit, signal }) =>
      (await (await call(`?limit=${limit}&`, { signal })).json()) as Page,
    markAsRead: (ids, { signal }) => markAsRead(ids, signal),
    markAllAsRead: ({ signal }) => markAsRead(null, signal),
  };
}

interface Props {
  readonly initialData: InitialData;
  readonly children: ReactNode;
}

/** The client of the user for whom the server has rendered the page. */
export function Notifications({ initialData, children }: Props) {
  const router = useRouter();
  const { user } = initialData;
  const api = useMemo(() => createApi(user), [user]);
  // The layout is rendered again for the user who is logged in now.
  const refresh = (): void => {
    router.refresh();
  };
  return (
    <NotificationProvider
      url="/api/notifications/stream"
      user={user}
      initialData={initialData}
      transport={eventSourceTransport()}
      api={api}
      onAuthenticationError={refresh}
      onUserChanged={refresh}
    >
      {children}
    </NotificationProvider>
  );
}
