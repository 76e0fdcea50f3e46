import type { NotificationApi, Page } from '../src/index.js';
import { request } from './request.js';

/** What the bell and the list of this user can ask of the demo's application. */
export function apiOf(userId: string): NotificationApi {
  const tell = (path: string, ids: readonly string[], signal: AbortSignal): Promise<unknown> =>
    request(path, { user_id: userId, ids }, signal);
  return {
    async list({ limit, signal }) {
      const path = `/demo/notifications?user_id=${encodeURIComponent(userId)}&limit=${limit}`;
      return (await request(path, undefined, signal)) as Page;
    },
    markAsRead: (ids, { signal }) => tell('/demo/read', ids, signal),
    markAsUnread: (ids, { signal }) => tell('/demo/unread', ids, signal),
    remove: (ids, { signal }) => tell('/demo/delete', ids, signal),
    markAllAsRead: ({ signal }) => request('/demo/read-all', { user_id: userId }, signal),
  };
}
