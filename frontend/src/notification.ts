/** What a notification is about; an app may have types of its own. */
export type NotificationType = 'info' | 'success' | 'warning' | 'error' | (string & {});

/** How a notification came. */
export interface Arrival {
  /**
   * Whether it was written while the page was connected. A notification that was missed
   * meanwhile, asleep or offline, is not live: a hundred of these need no toast each.
   */
  readonly live: boolean;
}

/**
 * One row of the table, as the stream carries it. An app whose `watch()` names other columns
 * declares them (`declare module '@notify-gateway/client' { interface NotificationRow<Metadata> …`).
 *
 * @typeParam Metadata What the app keeps in `metadata`. It is not checked.
 */
export interface NotificationRow<Metadata = unknown> {
  /** The row's key as text. It tells rows apart everywhere in this package. */
  readonly id: string;
  readonly type: NotificationType;
  readonly title: string;
  readonly message: string;
  /** Only `unread` rows count for the badge; an `archived` one is not listed. */
  readonly status: 'unread' | 'read' | 'archived' | (string & {});
  readonly metadata: Metadata;
  /** RFC 3339. */
  readonly created_at: string;
  readonly related_session_id: string | null;
}

/**
 * A row as the app's own API lists it. What a table of another shape does not have may be missing,
 * and a key may be a number.
 */
export type ListedRow<Metadata = unknown> = Pick<
  NotificationRow<Metadata>,
  'title' | 'status' | 'created_at'
> &
  Partial<Omit<NotificationRow<Metadata>, 'id'>> & { readonly id: string | number };
