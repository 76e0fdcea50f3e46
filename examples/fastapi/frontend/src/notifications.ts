import type { Request } from './session';

export interface Notification {
  readonly id: string;
  readonly type: string;
  readonly title: string;
  readonly message: string;
  readonly link: string | null;
  readonly status: 'unread' | 'read';
  readonly created_at: string;
}

export interface NotificationPage {
  readonly notifications: readonly Notification[];
  readonly unread_count: number;
}

export const LIST = '/api/notifications';

export function markAsRead(request: Request, ids: readonly string[], signal?: AbortSignal) {
  return request(`${LIST}/read`, { method: 'POST', body: { ids }, signal });
}

export function markAllAsRead(request: Request, signal?: AbortSignal) {
  return request(`${LIST}/read-all`, { method: 'POST', signal });
}

export function remove(request: Request, id: string, signal?: AbortSignal) {
  return request(`${LIST}/${id}`, { method: 'DELETE', signal });
}
