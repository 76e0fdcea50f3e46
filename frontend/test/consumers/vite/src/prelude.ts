// What the README's example takes for granted: a login, a REST API, a router.
import type { NotificationRow, NotificationApi } from '@notify-gateway/client';

const id = new URLSearchParams(location.search).get('user') ?? '';
export const user = { id };

let cached: string | undefined;

export const auth = {
  async getAccessToken({ ignoreCache }: { ignoreCache: boolean }): Promise<string> {
    if (cached === undefined || ignoreCache) {
      const response = await fetch(`/login?user=${id}`, { method: 'POST' });
      ({ token: cached } = (await response.json()) as { token: string });
    }
    return cached;
  },
};

async function call(method: string, path: string, signal: AbortSignal): Promise<unknown> {
  const token = await auth.getAccessToken({ ignoreCache: false });
  const headers = { authorization: `Bearer ${token}` };
  const response = await fetch(`/api/notifications${path}`, { method, headers, signal });
  if (!response.ok) throw new Error(`the API says ${response.status}`);
  return response.json();
}

interface Page {
  notifications: NotificationRow[];
  unreadCount: number;
}

export const api: NotificationApi = {
  list: async ({ signal }) => (await call('GET', '/page', signal)) as Page,
  markAsRead: (ids, { signal }) =>
    call('POST', `/read?${ids.map((each) => `id=${each}`).join('&')}`, signal),
  markAllAsRead: ({ signal }) => call('POST', '/read', signal),
};

export const router = {
  push(path: string): void {
    location.hash = path;
  },
};

export function linkOf(notification: NotificationRow): string {
  return `/notifications/${notification.id}`;
}
