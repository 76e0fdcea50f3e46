import type { Notification } from './notification.js';

/** What one poll found, and what the stream had brought when it asked. */
export interface Snapshot {
  /** The newest rows, as many as the app gives. */
  readonly notifications: readonly Notification[];
  /** The app's own count; it may be more than `notifications` shows. */
  readonly unreadCount: number;
  /** {@link Inbox.mark} before the list was asked for. */
  readonly listMark: number;
  /** {@link Inbox.mark} before the count was asked for, and no earlier than when the list had come. */
  readonly countMark: number;
}

/**
 * The newest rows and the unread count, from two sources that know nothing of
 * each other.
 *
 * The count is the server's last count, plus the unread rows the stream has
 * brought that this count cannot have included:
 *
 * - A row that arrived before the count was asked for was committed before it:
 *   it is in the count.
 * - A row in the list is in the count too, however late the stream brings it,
 *   since the count is asked for when the list is there (or comes with it).
 * - Any other is counted on top, once per id. It may be in the count all the
 *   same, when it was committed between the two questions or lies behind the
 *   end of the list; that is for the poller to settle with another poll
 *   (`mayBeCounted` in `polling.ts`).
 */
export interface Inbox {
  /** Newest first; the same array until something changes. */
  readonly notifications: readonly Notification[];
  readonly unreadCount: number;
  /** Whether a poll has succeeded. */
  readonly isLoaded: boolean;
  /** How many rows the stream has brought: a moment in its course. */
  mark(): number;
  /** Takes a row of the stream; false when it has been told of already. */
  receive(row: Notification): boolean;
  /**
   * Takes what the stream says has become of a row, null: that it is gone. False where
   * the count cannot be known without another poll.
   */
  change(id: string, row: Notification | null): boolean;
  /** Takes what a poll found; gives the rows that are news. */
  apply(snapshot: Snapshot): Notification[];
  /** Marks rows as read, before the server has been told; with `all` those that are no newer than `until`. */
  read(ids: readonly string[] | 'all', until?: number): void;
  /** The time of the newest row. */
  newest(): number;
  /** Forgets everything. */
  clear(): void;
}

/** Ids remembered to tell a row that came twice; past that the oldest is forgotten. */
export const MAX_SEEN = 2_000;
/** In place of an arrival: listed, but so old that only the stream can say whether it is news. */
const UNTOLD = -1;
/** Rows counted one by one above the last count; past that the oldest becomes part of it. */
export const MAX_UNCOUNTED = 1_000;

/** An inbox that shows the newest `limit` rows. */
export function createInbox(limit: number): Inbox {
  let notifications: readonly Notification[] = [];
  let counted = 0;
  let isLoaded = false;
  let arrivals = 0;
  /** Which of the stream's rows it was, by id; the oldest first. */
  const seen = new Map<string, number>();
  /** The unread ones above the count. */
  const uncounted = new Map<string, number>();
  /** What the stream has said of rows since the last list was asked for, and when. */
  const changes = new Map<string, { arrival: number; row: Notification | null }>();

  const remember = (id: string, arrival: number): void => {
    seen.delete(id);
    seen.set(id, arrival);
    if (seen.size > MAX_SEEN) forgetOldest(seen);
  };
  const show = (rows: readonly Notification[]): void => {
    // The sort is stable: of rows of the same instant the last to come is first.
    const next = [...rows].sort((a, b) => time(b) - time(a)).slice(0, limit);
    // What a poll has found unchanged stays the same object, for those who compare.
    const before = new Map(notifications.map((row) => [row.id, row]));
    const same = next.map((row) => {
      const old = before.get(row.id);
      const isCopy = old && old !== row && JSON.stringify(old) === JSON.stringify(row);
      return isCopy ? old : row;
    });
    const isSame = same.length === notifications.length;
    if (!isSame || same.some((row, at) => row !== notifications[at])) notifications = same;
  };

  return {
    get notifications() {
      return notifications;
    },
    get unreadCount() {
      return counted + uncounted.size;
    },
    get isLoaded() {
      return isLoaded;
    },
    mark: () => arrivals,

    receive(row) {
      const known = seen.get(row.id) ?? UNTOLD;
      if (known !== UNTOLD) return false;
      const isListed = seen.has(row.id);
      remember(row.id, ++arrivals);
      if (isListed) return true;
      if (row.status === 'unread') uncounted.set(row.id, arrivals);
      if (uncounted.size > MAX_UNCOUNTED) {
        forgetOldest(uncounted);
        counted += 1;
      }
      show([row, ...notifications]);
      return true;
    },

    change(id, row) {
      changes.set(id, { arrival: ++arrivals, row });
      if (changes.size > MAX_SEEN) forgetOldest(changes);
      const shown = notifications.find((other) => other.id === id);
      const isUnread = row?.status === 'unread';
      const wasUncounted = !isUnread && uncounted.delete(id);
      if (shown === undefined) return wasUncounted;
      const wasUnread = shown.status === 'unread';
      if (!wasUncounted && wasUnread !== isUnread) counted += isUnread ? 1 : -1;
      counted = Math.max(0, counted);
      const isFull = notifications.length >= limit;
      show(notifications.flatMap((other) => (other === shown ? (row ?? []) : [other])));
      // What follows the end of a full list takes the place of the row that is gone.
      return row !== null || !isFull;
    },

    apply({ notifications: answered, unreadCount, listMark, countMark }) {
      counted = unreadCount;
      // What the stream has said since is at least as new; the count may know of it.
      const listed = answered.flatMap((given) => {
        // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-conversion -- an app's keys may be numbers, whatever the type says
        const id = String(given.id);
        const row = given.id === id ? given : { ...given, id };
        const change = changes.get(id);
        if (change === undefined || change.arrival <= listMark) return [row];
        const isUnread = change.row?.status === 'unread';
        if (change.arrival > countMark && isUnread !== (row.status === 'unread')) {
          counted = Math.max(0, counted + (isUnread ? 1 : -1));
        }
        return change.row ? [change.row] : [];
      });
      changes.forEach(({ arrival }, id) => {
        if (arrival <= listMark) changes.delete(id);
      });
      // A row that only moved up, because a newer one was deleted, is no news.
      const newest = notifications[0];
      const isNews = (row: Notification): boolean =>
        isLoaded && !seen.has(row.id) && (newest === undefined || time(row) > time(newest));
      const news = listed.filter(isNews);
      // What the stream brought before the list was asked for and the list does
      // not show has been deleted, or is too old for it.
      const isListed = new Set(listed.map(({ id }) => id));
      const later = notifications.filter(
        ({ id }) => (seen.get(id) ?? 0) > listMark && !isListed.has(id),
      );
      uncounted.forEach((arrival, id) => {
        if (arrival <= countMark || isListed.has(id)) uncounted.delete(id);
      });
      for (const row of listed) {
        const isUntold = isLoaded && (seen.get(row.id) ?? UNTOLD) === UNTOLD;
        remember(row.id, isUntold && !news.includes(row) ? UNTOLD : 0);
      }
      isLoaded = true;
      show([...later, ...listed]);
      return news;
    },

    read(ids, until = Infinity) {
      const later = new Set<string>();
      const isMeant = (id: string): boolean => (ids === 'all' ? !later.has(id) : ids.includes(id));
      for (const row of notifications) if (time(row) > until) later.add(row.id);
      notifications = notifications.map((row) => {
        if (row.status !== 'unread' || !isMeant(row.id)) return row;
        if (!uncounted.has(row.id)) counted = Math.max(0, counted - 1);
        return { ...row, status: 'read' };
      });
      uncounted.forEach((_, id) => {
        if (isMeant(id)) uncounted.delete(id);
      });
      // Those that are not shown are older.
      const isCounted = ({ id, status }: Notification): boolean =>
        status === 'unread' && !uncounted.has(id);
      if (ids === 'all') counted = notifications.filter(isCounted).length;
    },

    newest: () => (notifications[0] ? time(notifications[0]) : -Infinity),

    clear() {
      notifications = [];
      counted = 0;
      isLoaded = false;
      seen.clear();
      uncounted.clear();
      changes.clear();
    },
  };
}

function forgetOldest(ids: Map<string, unknown>): void {
  const [oldest = ''] = ids.keys();
  ids.delete(oldest);
}

/** A time that cannot be read sorts as the oldest. */
function time({ created_at }: Notification): number {
  return Date.parse(created_at) || 0;
}
