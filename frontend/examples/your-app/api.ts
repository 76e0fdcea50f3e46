import type { NotificationApi, Page } from '@notify-gateway/client';
import { getToken } from './session.ts';

/**
 * The app's REST API as this user. Each user has an object of their own, so that a
 * request which is late is never made with the token of the next one.
 */
export function createApi(user: string): NotificationApi {
  const call = async (method: string, path: string, signal: AbortSignal): Promise<unknown> => {
    const headers = { authorization: `Bearer ${await getToken(user)}` };
    const response = await fetch(`/api/notifications${path}`, { method, headers, signal });
    if (!response.ok) throw new Error(`the API answers ${response.status}`);
    return response.json();
  };
  return {
    list: async ({ limit, signal }) => (await call('GET', `/page?limit=${limit}`, signal)) as Page,
    markAsRead: (ids, { signal }) =>
      call('POST', `/read?${ids.map((id) => `id=${id}`).join('&')}`, signal),
    markAllAsRead: ({ signal }) => call('POST', '/read', signal),
  };
}
