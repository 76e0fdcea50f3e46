/** What a notification is about; an app may have kinds of its own. */
export type NotificationType = 'info' | 'success' | 'warning' | 'error' | (string & {});

/** One row of the table, as the stream carries it. */
export interface Notification {
  /** The row's UUID; what tells rows apart everywhere in this package. */
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
