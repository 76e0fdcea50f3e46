/** What a notification is about; an app may have kinds of its own. */
export type NotificationType = 'info' | 'success' | 'warning' | 'error' | (string & {});

/** How a notification came. */
export interface Arrival {
  /**
   * Whether it was written while the page was connected. What was missed meanwhile, asleep or
   * away, is not: a hundred of these want no toast each.
   */
  readonly live: boolean;
}

/** One row of the table, as the stream carries it. */
export interface Notification {
  /** The row's key, a number's digits where it is one; what tells rows apart everywhere in this package. */
  readonly id: string;
  readonly type: NotificationType;
  readonly title: string;
  readonly message: string;
  /** Only `unread` rows count for the badge. */
  readonly status: 'unread' | 'read' | (string & {});
  /** The row's `metadata` column, whatever the app keeps there. */
  readonly metadata: unknown;
  /** RFC 3339. */
  readonly created_at: string;
  readonly related_session_id: string | null;
}
