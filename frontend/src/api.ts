import type { Notification } from './notification.js';

/** What goes with every call of the app's API. */
export interface CallRequest {
  /** Aborted when the answer is no longer wanted, and after 30 s, which are a failure. */
  readonly signal: AbortSignal;
}

/** What goes with every request for rows. */
export interface ApiRequest extends CallRequest {
  /** How many rows the client keeps; more are cut off. */
  readonly limit: number;
}

/** A list and a count of the same instant. */
export interface Page {
  readonly notifications: readonly Notification[];
  readonly unreadCount: number;
}

/**
 * The app's own REST API, which the client polls. Every function rejects when
 * it fails; a list or a count is not asked for while one is on its way.
 */
export interface NotificationApi {
  /**
   * The newest notifications of the user, newest first: an array, or a
   * {@link Page} where one query (or one transaction) gives the count as well.
   * With a page the badge is exact at every moment; with a separate
   * `unreadCount` it can be one too high for about a second.
   */
  list(request: ApiRequest): Promise<readonly Notification[] | Page>;
  /** How many are unread, listed or not. Not asked where `list` gives a {@link Page}, needed where it gives an array. */
  unreadCount?(request: ApiRequest): Promise<number>;
  /** Marks these as read. */
  markAsRead?(ids: readonly string[], request: CallRequest): Promise<unknown>;
  /** Marks all of the user's as read. */
  markAllAsRead?(request: CallRequest): Promise<unknown>;
}
