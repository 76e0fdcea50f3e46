import type { ActionName, Page } from './api.js';
import type { NotificationRow } from './notification.js';

/** What the user does to rows. */
export interface Edit {
  readonly action: ActionName;
  /** Which ones; without it all that are no newer than `until`. */
  readonly ids?: readonly string[] | undefined;
  /** In milliseconds since 1970. */
  readonly until: number;
}

/** What one poll found, and what the stream had brought when it asked. */
export interface Snapshot extends Page {
  /** How many rows were asked for. */
  readonly limit: number;
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
  readonly notifications: readonly NotificationRow[];
  readonly unreadCount: number;
  /** How many of the unread the user has not seen in the list yet. */
  readonly unseenCount: number;
  /** Whether a poll has succeeded. */
  readonly isLoaded: boolean;
  /** Whether there are older rows than those that are shown. */
  readonly hasMore: boolean;
  /** Whether older rows were asked for that no poll has brought yet. */
  readonly isFetchingMore: boolean;
  /** How many rows are shown at most. */
  limit: number;
  /** How many rows the stream has brought: a moment in its course. */
  mark(): number;
  /** Whether the stream has said what became of a row, and no list has been asked for since. */
  hasChanged(id: string): boolean;
  /** Takes a row of the stream; false when it has been told of already, or is not to be listed. */
  receive(row: NotificationRow): boolean;
  /**
   * Takes what the stream says has become of a row, null: that it is gone. False where
   * the count cannot be known without another poll.
   */
  change(id: string, row: NotificationRow | null): boolean;
  /** Takes what a poll found; gives the rows that are news. */
  apply(snapshot: Snapshot): NotificationRow[];
  /** Does what the user does, before the server has been told. */
  readonly edit: (edit: Edit) => void;
  /** The time of the newest row. */
  newest(): number;
  /** Forgets everything, and shows so many rows at most. */
  clear(limit: number): void;
}

const ARCHIVED = 'archived';
/** Ids remembered to tell a row that came twice; past that the oldest is forgotten. */
export const MAX_SEEN = 2_000;
/** In place of an arrival: listed, but so old that only the stream can say whether it is news. */
const UNTOLD = -1;
/** Rows counted one by one above the last count; past that the oldest becomes part of it. */
export const MAX_UNCOUNTED = 1_000;

/** An inbox that shows the newest `limit` rows. */
export function createInbox(limit: number): Inbox {
  let notifications: readonly NotificationRow[] = [];
  let counted = 0;
  let isLoaded = false;
  let hasMore = false;
  /** The `limit` of the last list. */
  let listedLimit = 0;
  /** The time of the newest row that was ever shown. */
  let newestAt = -Infinity;
  /** Rows that are no newer were seen. */
  let seenUntil = -Infinity;
  let arrivals = 0;
  /** Which of the stream's rows it was, by id; the oldest first. */
  const seen = new Map<string, number>();
  /** The unread ones above the count. */
  const uncounted = new Map<string, number>();
  /** What the stream has said of rows since the last list was asked for, and when. */
  const changes = new Map<string, { arrival: number; row: NotificationRow | null }>();

  const remember = (id: string, arrival: number): void => {
    seen.delete(id);
    seen.set(id, arrival);
    if (seen.size > MAX_SEEN) forgetOldest(seen);
  };
  const show = (rows: readonly NotificationRow[]): void => {
    // The sort is stable: of rows of the same instant the last to come is first.
    const next = [...rows].sort((a, b) => time(b) - time(a)).slice(0, limit);
    hasMore ||= rows.length > limit;
    // What a poll has found unchanged stays the same object, for those who compare.
    const before = new Map(notifications.map((row) => [row.id, row]));
    const same = next.map((row) => {
      const old = before.get(row.id);
      const isCopy = old && old !== row && JSON.stringify(old) === JSON.stringify(row);
      return isCopy ? old : row;
    });
    newestAt = Math.max(newestAt, ...next.map(time));
    const isSame = same.length === notifications.length;
    if (!isSame || same.some((row, at) => row !== notifications[at])) notifications = same;
  };

  /** Puts a row in the place of one that is shown, or takes that away; false as {@link Inbox.change} says. */
  const replace = (id: string, row: NotificationRow | null): boolean => {
    const shown = notifications.find((other) => other.id === id);
    const isNowUnread = isUnread(row);
    const wasUncounted = !isNowUnread && uncounted.delete(id);
    if (shown === undefined) return wasUncounted;
    if (!wasUncounted) recount(isUnread(shown), isNowUnread);
    const isFull = notifications.length >= limit;
    show(notifications.flatMap((other) => (other === shown ? (row ?? []) : [other])));
    // What follows the end of a full list takes the place of the row that is gone.
    return row !== null || !isFull;
  };
  const recount = (was: boolean, is: boolean): void => {
    counted = Math.max(0, counted + Number(is) - Number(was));
  };

  return {
    get notifications() {
      return notifications;
    },
    get unreadCount() {
      return counted + uncounted.size;
    },
    get unseenCount() {
      const unseen = notifications.filter((row) => isUnread(row) && time(row) > seenUntil).length;
      // Behind the end of a list that is full of them there may be more.
      return unseen < limit ? unseen : counted + uncounted.size;
    },
    get isLoaded() {
      return isLoaded;
    },
    get hasMore() {
      return hasMore;
    },
    get isFetchingMore() {
      return isLoaded && limit > listedLimit;
    },
    get limit() {
      return limit;
    },
    set limit(next) {
      limit = next;
    },
    mark: () => arrivals,
    hasChanged: (id) => changes.has(id),

    receive(given) {
      // What became of a row is newer than the row, in whatever order they come.
      const change = changes.get(given.id);
      const row = change?.row ?? given;
      const known = seen.get(row.id) ?? UNTOLD;
      if (known !== UNTOLD) return false;
      const isListed = seen.has(row.id);
      remember(row.id, ++arrivals);
      if (change?.row === null || row.status === ARCHIVED) return false;
      if (isListed) return true;
      if (isUnread(row)) uncounted.set(row.id, arrivals);
      if (uncounted.size > MAX_UNCOUNTED) {
        forgetOldest(uncounted);
        counted += 1;
      }
      show([row, ...notifications]);
      return true;
    },

    change(id, changed) {
      const row = changed?.status === ARCHIVED ? null : changed;
      changes.set(id, { arrival: ++arrivals, row });
      if (changes.size > MAX_SEEN) forgetOldest(changes);
      return replace(id, row);
    },

    apply({ notifications: answered, unreadCount, seenAt, listMark, countMark, ...asked }) {
      counted = unreadCount;
      listedLimit = asked.limit;
      hasMore = answered.length >= listedLimit;
      seenUntil = Math.max(seenUntil, Date.parse(seenAt ?? '') || -Infinity);
      // What the stream has said since is at least as new; the count may know of it.
      const listed = answered.flatMap((given) => {
        const id = String(given.id);
        // As the stream's rows: what a table does not have is missing there as well.
        const row = (given.id === id ? given : { ...given, id }) as NotificationRow;
        const change = changes.get(id);
        if (change === undefined || change.arrival <= listMark) {
          return row.status === ARCHIVED ? [] : [row];
        }
        if (change.arrival > countMark) recount(isUnread(row), isUnread(change.row));
        return change.row ? [change.row] : [];
      });
      changes.forEach(({ arrival }, id) => {
        if (arrival <= listMark) changes.delete(id);
      });
      // A row that only moved up, because newer ones were deleted, is no news.
      const isNews = (row: NotificationRow): boolean =>
        isLoaded && !seen.has(row.id) && time(row) > newestAt;
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
      // Read when it came and unread since, it was counted in the count of before.
      for (const row of later) {
        const arrival = seen.get(row.id) ?? 0;
        if (isUnread(row) && arrival > countMark) uncounted.set(row.id, arrival);
      }
      for (const row of listed) {
        const isUntold = isLoaded && (seen.get(row.id) ?? UNTOLD) === UNTOLD;
        remember(row.id, isUntold && !news.includes(row) ? UNTOLD : 0);
      }
      isLoaded = true;
      show([...later, ...listed]);
      return news;
    },

    edit({ action, ids, until }) {
      if (action === 'markAllAsSeen') {
        seenUntil = Math.max(seenUntil, until);
        return;
      }
      const isMeant = (row: NotificationRow): boolean =>
        ids?.includes(row.id) ?? time(row) <= until;
      const later = new Set(notifications.flatMap((row) => (isMeant(row) ? [] : [row.id])));
      for (const row of notifications) if (isMeant(row)) replace(row.id, edited(row, action));
      if (action === 'markAsUnread') return;
      // Those that are not shown are older.
      for (const id of ids ?? [...uncounted.keys()]) if (!later.has(id)) uncounted.delete(id);
      const isCounted = (row: NotificationRow): boolean => isUnread(row) && !uncounted.has(row.id);
      if (!ids) counted = notifications.filter(isCounted).length;
    },

    newest: () => (notifications[0] ? time(notifications[0]) : -Infinity),

    clear(nextLimit) {
      limit = nextLimit;
      notifications = [];
      counted = listedLimit = 0;
      isLoaded = hasMore = false;
      seenUntil = newestAt = -Infinity;
      seen.clear();
      uncounted.clear();
      changes.clear();
    },
  };
}

function edited(row: NotificationRow, action: ActionName): NotificationRow | null {
  if (action === 'archive' || action === 'remove') return null;
  const status = action === 'markAsUnread' ? 'unread' : 'read';
  return row.status === status ? row : { ...row, status };
}

function isUnread(row: NotificationRow | null): boolean {
  return row?.status === 'unread';
}

function forgetOldest(ids: Map<string, unknown>): void {
  const [oldest = ''] = ids.keys();
  ids.delete(oldest);
}

/** A time that cannot be read sorts as the oldest. */
function time({ created_at }: NotificationRow): number {
  return Date.parse(created_at) || 0;
}
