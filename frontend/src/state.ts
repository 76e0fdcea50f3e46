import type { NotificationRow } from './notification.js';
import type { Link } from './stream.js';

/** What the client knows; the same object until something changes. */
export interface ClientState<Metadata = unknown> extends Link {
  /** The newest, newest first. */
  readonly notifications: readonly NotificationRow<Metadata>[];
  readonly unreadCount: number;
  /**
   * How many of the unread ones the user has not seen in the list yet. Exact as far as
   * the list goes; where all of a full list are unseen, it is `unreadCount`.
   */
  readonly unseenCount: number;
  /** Whether the list has been fetched once. */
  readonly isLoaded: boolean;
  /** Whether `fetchMore()` can bring older ones. */
  readonly hasMore: boolean;
  /** Whether they are on their way. */
  readonly isFetchingMore: boolean;
  /** What the app's API rejected the last poll with; null where it answered. */
  readonly error: unknown;
  /**
   * Whether this tab is the one of the browser that makes a sound, shows a desktop notification
   * or anything else that is to happen once. Where tabs share no stream, each of them is.
   */
  readonly isLeading: boolean;
  /**
   * Another number for another user: what was kept of notifications under a former one is
   * to be forgotten. It is different in each client, too.
   */
  readonly session: number;
}
