import type { ListedRow } from './notification.js';

/** What goes with every call of the app's API. */
export interface CallRequest {
  /** Aborted when the answer is no longer wanted, and after 30 s, which count as a failure. */
  readonly signal: AbortSignal;
}

/** What goes with every request for rows. */
export interface ApiRequest extends CallRequest {
  /** How many rows the client shows; more are cut off. It grows when older ones are wanted. */
  readonly limit: number;
}

/** A list and a count of the same instant. */
export interface Page<Metadata = unknown> {
  readonly notifications: readonly ListedRow<Metadata>[];
  readonly unreadCount: number;
  /** Up to when the user has seen the list (RFC 3339), on any device; where the app keeps it. */
  readonly seenAt?: string | null | undefined;
}

/**
 * The app's own REST API, which the client polls. Every function rejects when
 * it fails; a list or a count is not asked for while one is on its way.
 */
export interface NotificationApi<Metadata = unknown> {
  /**
   * The newest `limit` notifications of the user, newest first (by another column where two
   * are of the same instant, so that they keep their places): an array, or a
   * {@link Page} where one query (or one transaction) gives the count as well.
   * With a page the badge is exact at every moment; with a separate
   * `unreadCount` it can be one too high for about a second.
   */
  list(request: ApiRequest): Promise<readonly ListedRow<Metadata>[] | Page<Metadata>>;
  /** How many are unread, listed or not. Needed where `list` gives an array, and not asked otherwise. */
  unreadCount?(request: ApiRequest): Promise<number>;
  /** Marks these as read. */
  markAsRead?(ids: readonly string[], request: CallRequest): Promise<unknown>;
  /** Marks these as unread. */
  markAsUnread?(ids: readonly string[], request: CallRequest): Promise<unknown>;
  /** Takes these out of the list and keeps them elsewhere. */
  archive?(ids: readonly string[], request: CallRequest): Promise<unknown>;
  /** Deletes these. */
  remove?(ids: readonly string[], request: CallRequest): Promise<unknown>;
  /** Marks all of the user's as read. */
  markAllAsRead?(request: CallRequest): Promise<unknown>;
  /** Keeps that the user has seen the list; `list` gives the time back as `seenAt`. */
  markAllAsSeen?(request: CallRequest): Promise<unknown>;
}

/** What a user can do to notifications; the names of the API's functions. */
export type ActionName = Exclude<keyof NotificationApi, 'list' | 'unreadCount'>;
