import type { NotificationRow } from '../notification.js';

/** The words of the bell and its list. */
export interface BellLabels {
  /** The button's name, which screen readers say; the badge is only seen. */
  readonly button: (unreadCount: number) => string;
  /** The same, where the badge counts what has not been seen yet. */
  readonly buttonUnseen: (unseenCount: number) => string;
  /** The list's heading. */
  readonly title: string;
  readonly markAllAsRead: string;
  readonly markAsRead: string;
  readonly markAsUnread: string;
  readonly archive: string;
  readonly remove: string;
  /** In place of a title without a letter. */
  readonly untitled: string;
  readonly empty: string;
  /** While the list, or more of it, is on its way. */
  readonly loading: string;
  /** Where the list cannot be fetched. */
  readonly error: string;
  readonly tryAgain: string;
  /** Something that the user did to an entry has failed, and is taken back. */
  readonly actionFailed: string;
  /** The button that fetches older notifications. */
  readonly older: string;
  /** The button that leads to what has come above the part of the list that is seen. */
  readonly newAbove: (count: number) => string;
  /** Shows the whole of a long text, and takes it back. */
  readonly showMore: string;
  readonly showLess: string;
  /** Of an entry, for screen readers; the dot is only seen. */
  readonly unread: string;
  /** What an entry's sign says of its type. */
  readonly type: (type: string) => string;
  /** What screen readers say when a notification comes. */
  readonly announcement: (notification: NotificationRow, unreadCount: number) => string;
}

/** The words, unless the app gives others. */
export const ENGLISH: BellLabels = {
  button: (unreadCount) =>
    unreadCount > 0 ? `Notifications, ${unreadCount} unread` : 'Notifications',
  buttonUnseen: (unseenCount) =>
    unseenCount > 0 ? `Notifications, ${unseenCount} new` : 'Notifications',
  title: 'Notifications',
  markAllAsRead: 'Mark all as read',
  markAsRead: 'Mark as read',
  markAsUnread: 'Mark as unread',
  archive: 'Archive',
  remove: 'Delete',
  untitled: 'Untitled',
  empty: 'Nothing new',
  loading: 'Loading …',
  error: 'The notifications cannot be loaded.',
  tryAgain: 'Try again',
  actionFailed: 'That did not work.',
  older: 'Show older',
  newAbove: (count) => `${count} new`,
  showMore: 'Show more',
  showLess: 'Show less',
  unread: 'unread',
  type: (type) => type,
  announcement: ({ title }, unreadCount) => `${title}. ${unreadCount} unread`,
};
