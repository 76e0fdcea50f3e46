import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Inbox, MAX_SEEN, MAX_UNCOUNTED, createInbox } from '../../src/inbox.js';
import type { NotificationRow } from '../../src/notification.js';

/** A row of the second `n`. */
function row(n: number, status = 'unread'): NotificationRow {
  return {
    id: `row ${n}`,
    type: 'info',
    title: `title ${n}`,
    message: '',
    status,
    metadata: null,
    created_at: new Date(n * 1_000).toISOString(),
    related_session_id: null,
  };
}
const ids = (inbox: Inbox): string[] => inbox.notifications.map(({ id }) => id);

function read(inbox: Inbox, rows: string[]): void {
  inbox.edit({ action: 'markAsRead', ids: rows, until: inbox.newest() });
}

/** A poll whose list and count are read while nothing else happens. */
function poll(
  inbox: Inbox,
  notifications: NotificationRow[],
  unreadCount: number,
): NotificationRow[] {
  const mark = inbox.mark();
  return inbox.apply({
    notifications,
    unreadCount,
    listMark: mark,
    countMark: mark,
    limit: inbox.limit,
  });
}

describe('rows', () => {
  test('are shown newest first, as many as wanted', () => {
    const inbox = createInbox(2);
    for (const n of [2, 1, 3]) inbox.receive(row(n));
    expect(ids(inbox)).toEqual(['row 3', 'row 2']);
    expect(inbox.unreadCount).toBe(3);
  });

  test('that come twice are taken once', () => {
    const inbox = createInbox(20);
    expect(inbox.receive(row(1))).toBe(true);
    expect(inbox.receive(row(1))).toBe(false);
    expect(ids(inbox)).toEqual(['row 1']);
    expect(inbox.unreadCount).toBe(1);
  });

  test('that a poll brought are known when the stream brings them', () => {
    const inbox = createInbox(20);
    poll(inbox, [row(1)], 1);
    expect(inbox.receive(row(1))).toBe(false);
    expect(inbox.unreadCount).toBe(1);
  });

  test('whose keys are numbers in the list are those of the stream', () => {
    const inbox = createInbox(20);
    const numbered = (n: number) => ({ ...row(n), id: n as unknown as string });
    poll(inbox, [numbered(2), numbered(1)], 2);
    expect(inbox.receive({ ...row(1), id: '1' })).toBe(false);
    expect(ids(inbox)).toEqual(['2', '1']);
    expect(inbox.change('1', { ...row(1), id: '1', status: 'read' })).toBe(true);
    expect(inbox.change('2', null)).toBe(true);
    expect(inbox.unreadCount).toBe(0);
    poll(inbox, [numbered(1)], 1);
    expect(ids(inbox)).toEqual(['1']);
  });

  test('that a lagging list has left out and shows again are no news', () => {
    const inbox = createInbox(20);
    poll(inbox, [], 0);
    expect(poll(inbox, [row(2), row(1)], 2)).toHaveLength(2);
    expect(poll(inbox, [row(1)], 1)).toEqual([]);
    expect(poll(inbox, [row(2), row(1)], 2)).toEqual([]);
  });

  test('that an app does not count take nothing from the count when they are read', () => {
    const inbox = createInbox(20);
    poll(inbox, [row(1)], 0);
    read(inbox, ['row 1']);
    expect(inbox.unreadCount).toBe(0);
  });

  test('are remembered by the thousand, and then forgotten', () => {
    const inbox = createInbox(20);
    for (let n = 0; n <= MAX_SEEN; n += 1) inbox.receive(row(n));
    expect(inbox.receive(row(1))).toBe(false);
    expect(inbox.receive(row(0))).toBe(true);
  });

  test('that are read when they come do not count', () => {
    const inbox = createInbox(20);
    inbox.receive(row(1, 'read'));
    expect(inbox.unreadCount).toBe(0);
  });

  test('that the app has deleted go with the next poll', () => {
    const inbox = createInbox(20);
    inbox.receive(row(1));
    poll(inbox, [], 0);
    expect(ids(inbox)).toEqual([]);
    expect(inbox.unreadCount).toBe(0);
  });
});

describe('news', () => {
  test('are not what was there before the first poll', () => {
    const inbox = createInbox(20);
    expect(poll(inbox, [row(1)], 1)).toEqual([]);
    expect(poll(inbox, [row(2), row(1)], 2)).toEqual([row(2)]);
  });

  test('are not what the stream has brought before', () => {
    const inbox = createInbox(20);
    poll(inbox, [], 0);
    inbox.receive(row(1));
    expect(poll(inbox, [row(1)], 1)).toEqual([]);
  });

  test('are rows that a poll has shown between newer ones, when the stream brings them', () => {
    const inbox = createInbox(20);
    poll(inbox, [row(1)], 1);
    inbox.receive(row(3));
    expect(poll(inbox, [row(3), row(2), row(1)], 3)).toEqual([]);
    expect(poll(inbox, [row(3), row(2), row(1)], 3)).toEqual([]);
    expect(inbox.receive(row(2))).toBe(true);
    expect(inbox.receive(row(2))).toBe(false);
    expect(inbox.receive(row(1))).toBe(false);
    expect(ids(inbox)).toEqual(['row 3', 'row 2', 'row 1']);
    expect(inbox.unreadCount).toBe(3);
  });

  test('are not old rows that moved up into the list', () => {
    const inbox = createInbox(2);
    poll(inbox, [row(3), row(2)], 3);
    expect(poll(inbox, [row(3), row(1)], 2)).toEqual([]);
  });
});

describe('the count', () => {
  test('includes what arrived before it was asked for', () => {
    const inbox = createInbox(20);
    inbox.receive(row(1));
    poll(inbox, [row(1)], 1);
    expect(inbox.unreadCount).toBe(1);
  });

  test('includes what arrived before it was asked for even where the list is too short to show it', () => {
    const inbox = createInbox(20);
    inbox.receive(row(1));
    poll(inbox, [row(3), row(2)], 3);
    expect(inbox.unreadCount).toBe(3);
  });

  test('does not include what arrives between the question and the answer and is in no list', () => {
    const inbox = createInbox(20);
    const mark = inbox.mark();
    inbox.receive(row(1));
    inbox.apply({
      notifications: [],
      unreadCount: 0,
      listMark: mark,
      countMark: mark,
      limit: inbox.limit,
    });
    expect(inbox.unreadCount).toBe(1);
    expect(ids(inbox)).toEqual(['row 1']);
  });

  test('includes what arrives meanwhile and is in the list', () => {
    const inbox = createInbox(20);
    const mark = inbox.mark();
    inbox.receive(row(1));
    inbox.apply({
      notifications: [row(1)],
      unreadCount: 1,
      listMark: mark,
      countMark: mark,
      limit: inbox.limit,
    });
    expect(inbox.unreadCount).toBe(1);
    expect(ids(inbox)).toEqual(['row 1']);
  });

  test('stays right when so many rows come that they are no longer told apart', () => {
    const inbox = createInbox(20);
    const many = MAX_SEEN + MAX_UNCOUNTED;
    for (let n = 0; n < many; n += 1) inbox.receive(row(n));
    expect(inbox.unreadCount).toBe(many);
    expect(inbox.notifications).toHaveLength(20);
  });
});

describe('what becomes of a row', () => {
  test('may come before the row itself', () => {
    const inbox = createInbox(20);
    poll(inbox, [], 0);
    inbox.change('row 1', null);
    expect(inbox.receive(row(1))).toBe(false);
    inbox.change('row 2', row(2, 'read'));
    expect(inbox.receive(row(2))).toBe(true);
    expect(ids(inbox)).toEqual(['row 2']);
    expect(inbox.unreadCount).toBe(0);
  });

  test('while a poll is under way counts, though the poll knows nothing of the row', () => {
    const inbox = createInbox(20);
    poll(inbox, [row(1)], 1);
    const mark = inbox.mark();
    inbox.receive(row(2));
    inbox.change('row 2', row(2, 'read'));
    inbox.change('row 2', row(2));
    const snapshot = { notifications: [row(1)], unreadCount: 1, limit: inbox.limit };
    inbox.apply({ ...snapshot, listMark: mark, countMark: mark });
    expect(inbox.unreadCount).toBe(2);
  });
});

describe('marking as read', () => {
  test('counts down by the rows that were unread', () => {
    const inbox = createInbox(20);
    poll(inbox, [row(2), row(1, 'read')], 5);
    inbox.receive(row(3));
    read(inbox, ['row 1', 'row 2', 'row 3', 'row of another list']);
    expect(inbox.unreadCount).toBe(4);
    expect(inbox.notifications.map(({ status }) => status)).toEqual(['read', 'read', 'read']);
    read(inbox, ['row 2']);
    expect(inbox.unreadCount).toBe(4);
  });

  test('all of them leaves none, and later ones count', () => {
    const inbox = createInbox(2);
    poll(inbox, [row(3), row(2)], 7);
    inbox.receive(row(4));
    inbox.edit({ action: 'markAllAsRead', until: inbox.newest() });
    expect(inbox.unreadCount).toBe(0);
    inbox.receive(row(5));
    expect(inbox.unreadCount).toBe(1);
  });

  test('a row that is no longer shown but counted on top is counted down', () => {
    const inbox = createInbox(1);
    inbox.receive(row(1));
    inbox.receive(row(2));
    read(inbox, ['row 1']);
    expect(inbox.unreadCount).toBe(1);
  });
});

describe('what the user does', () => {
  const until = Infinity;

  test('takes all that is shown away, and older rows that move up are no news', () => {
    const inbox = createInbox(3);
    poll(inbox, [row(6), row(5), row(4)], 6);
    inbox.edit({ action: 'archive', ids: ['row 6', 'row 5', 'row 4'], until });
    expect(poll(inbox, [row(3), row(2), row(1)], 3)).toEqual([]);
    expect(poll(inbox, [row(7), row(3), row(2)], 4)).toEqual([row(7)]);
  });

  test('marks as unread, and the count goes up', () => {
    const inbox = createInbox(20);
    poll(inbox, [row(2), row(1, 'read')], 1);
    inbox.edit({ action: 'markAsUnread', ids: ['row 1', 'row 2'], until });
    expect(inbox.unreadCount).toBe(2);
    read(inbox, ['row 1']);
    expect(inbox.unreadCount).toBe(1);
  });

  test.each(['archive', 'remove'] as const)('%s takes out of the list and the count', (action) => {
    const inbox = createInbox(20);
    poll(inbox, [row(2), row(1, 'read')], 4);
    inbox.receive(row(3));
    inbox.edit({ action, ids: ['row 3', 'row 2', 'row 1'], until });
    expect(ids(inbox)).toEqual([]);
    expect(inbox.unreadCount).toBe(3);
    expect(inbox.receive(row(3))).toBe(false);
    expect(poll(inbox, [row(3), row(2)], 4)).toEqual([]);
  });

  test('what is archived elsewhere is listed no more', () => {
    const inbox = createInbox(20);
    poll(inbox, [row(2), row(1)], 2);
    inbox.change('row 1', row(1, 'archived'));
    expect(ids(inbox)).toEqual(['row 2']);
    expect(inbox.unreadCount).toBe(1);
    poll(inbox, [row(2), row(1, 'archived')], 1);
    expect(inbox.receive(row(3, 'archived'))).toBe(false);
    expect(ids(inbox)).toEqual(['row 2']);
  });

  test('has seen is not unseen any more, and counts as unread all the same', () => {
    const inbox = createInbox(20);
    poll(inbox, [row(2), row(1, 'read')], 1);
    expect(inbox.unseenCount).toBe(1);
    inbox.edit({ action: 'markAllAsSeen', until: inbox.newest() });
    expect(inbox).toMatchObject({ unseenCount: 0, unreadCount: 1 });
    inbox.receive(row(3));
    expect(inbox).toMatchObject({ unseenCount: 1, unreadCount: 2 });
    poll(inbox, [row(3), row(2)], 2);
    expect(inbox.unseenCount).toBe(1);
  });

  test('has seen on another device is what the list says', () => {
    const inbox = createInbox(2);
    const mark = inbox.mark();
    const snapshot = { limit: 2, listMark: mark, countMark: mark, unreadCount: 9 };
    inbox.apply({ ...snapshot, notifications: [row(3), row(2)] });
    expect(inbox.unseenCount).toBe(9);
    inbox.apply({ ...snapshot, notifications: [row(3), row(2)], seenAt: row(2).created_at });
    expect(inbox.unseenCount).toBe(1);
  });

  test('wants older ones, and a longer list brings them', () => {
    const inbox = createInbox(2);
    poll(inbox, [row(4), row(3)], 4);
    expect(inbox).toMatchObject({ hasMore: true, isFetchingMore: false });
    inbox.limit = 4;
    expect(inbox.isFetchingMore).toBe(true);
    inbox.receive(row(5));
    expect(poll(inbox, [row(5), row(4), row(3), row(2)], 5)).toEqual([]);
    expect(inbox).toMatchObject({ hasMore: true, isFetchingMore: false });
    inbox.limit = 6;
    poll(inbox, [row(5), row(4), row(3), row(2), row(1)], 5);
    expect(inbox.hasMore).toBe(false);
    inbox.clear(2);
    poll(inbox, [row(1)], 1);
    inbox.receive(row(6));
    expect(inbox.hasMore).toBe(false);
    inbox.receive(row(7));
    expect(inbox.hasMore).toBe(true);
  });
});

/**
 * A table, a stream and polls, in any order the network can put them: rows are
 * committed; the stream brings each once, in any order and at any time after; a
 * poll reads the list at one moment and the count at a later one (or both at
 * once), and its answer comes later still. The user does things to the rows that
 * are shown, and asks for older ones.
 */
type Event =
  | 'commit'
  | 'touch'
  | 'remove'
  | 'edit'
  | 'grow'
  | 'deliver'
  | 'askList'
  | 'readList'
  | 'listCame'
  | 'readCount'
  | 'answer';
const events = fc.array(
  fc.tuple(
    fc.constantFrom<Event>(
      'commit',
      'commit',
      'touch',
      'remove',
      'edit',
      'grow',
      'deliver',
      'deliver',
      'deliver',
      'askList',
      'readList',
      'listCame',
      'readCount',
      'answer',
    ),
    fc.nat(),
  ),
  { maxLength: 80 },
);

const unread = (rows: readonly NotificationRow[]): number =>
  rows.filter(({ status }) => status === 'unread').length;

function play(history: readonly [Event, number][], isOneInstant: boolean, limit: number) {
  const inbox = createInbox(limit);
  const table: NotificationRow[] = [];
  let made = 0;
  /** What the stream has still to bring: of one row in its order, of several in any. */
  const underway: { id: string; row: NotificationRow | null; isNew: boolean }[] = [];
  let query: {
    step: Event;
    listMark: number;
    countMark: number;
    list: NotificationRow[];
    count: number;
  } | null = null;
  /** By how much the count has changed between the two reads of the last answer. */
  let between = 0;
  let changesAtList = 0;
  let changes = 0;
  /** Shows at once; the API has done it in the same moment, and makes the poll under way void. */
  const edit = (luck: number): void => {
    const shown = inbox.notifications[luck % Math.max(1, inbox.notifications.length)];
    const at = table.findIndex(({ id }) => id === shown?.id);
    const action = (['markAsRead', 'markAsUnread', 'remove'] as const)[luck % 3] ?? 'remove';
    const old = table[at];
    if (!old) return;
    inbox.edit({ action, ids: [old.id], until: inbox.newest() });
    query = null;
    changes += 1;
    const next = { ...old, status: action === 'markAsRead' ? 'read' : 'unread' };
    if (action === 'remove') table.splice(at, 1);
    else table[at] = next;
    underway.push({ id: old.id, row: action === 'remove' ? null : next, isNew: false });
  };
  const does = (event: Event, luck: number): void => {
    const at = luck % Math.max(1, table.length);
    const touched = table[at];
    if (event === 'commit') {
      const next = row(++made);
      table.push(next);
      changes += 1;
      underway.push({ id: next.id, row: next, isNew: true });
    } else if (event === 'touch' && touched) {
      const status = touched.status === 'unread' ? 'read' : 'unread';
      const next = { ...touched, status };
      table[at] = next;
      changes += 1;
      underway.push({ id: next.id, row: next, isNew: false });
    } else if (event === 'remove' && touched) {
      table.splice(at, 1);
      changes += 1;
      underway.push({ id: touched.id, row: null, isNew: false });
    } else if (event === 'edit') {
      edit(luck);
    } else if (event === 'grow' && query === null) {
      inbox.limit += 1;
    } else if (event === 'deliver') {
      const any = underway[luck % Math.max(1, underway.length)];
      const first = underway.findIndex(({ id }) => id === any?.id);
      const [brought] = first < 0 ? [] : underway.splice(first, 1);
      if (brought?.isNew && brought.row) inbox.receive(brought.row);
      else if (brought) inbox.change(brought.id, brought.row);
    } else if (event === 'askList' && query === null) {
      const mark = inbox.mark();
      query = { step: 'askList', listMark: mark, countMark: mark, list: [], count: 0 };
    } else if (event === 'readList' && query?.step === 'askList') {
      query = {
        ...query,
        step: 'readList',
        list: [...table].reverse().slice(0, inbox.limit),
        count: unread(table),
      };
      changesAtList = changes;
    } else if (event === 'listCame' && query?.step === 'readList' && !isOneInstant) {
      query = { ...query, step: 'listCame', countMark: inbox.mark() };
    } else if (event === 'readCount' && query?.step === 'listCame') {
      query = { ...query, step: 'readCount', count: unread(table) };
      between = changes - changesAtList;
    } else if (event === 'answer' && query?.step === (isOneInstant ? 'readList' : 'readCount')) {
      const { list: notifications, count: unreadCount, listMark, countMark } = query;
      inbox.apply({ notifications, unreadCount, listMark, countMark, limit: inbox.limit });
      query = null;
    }
  };
  for (const [event, luck] of history) does(event, luck);
  return {
    inbox,
    table,
    /** The poll under way is answered and everything delivered, then a poll asks and answers. */
    settle: () => {
      const rest = ['readList', 'listCame', 'readCount', 'answer'] as const;
      for (const event of rest) does(event, 0);
      while (underway.length > 0) does('deliver', 0);
      const before = { unreadCount: inbox.unreadCount, between };
      for (const event of ['askList', ...rest] as const) does(event, 0);
      return before;
    },
  };
}

describe('whatever the order in which stream and polls bring rows', () => {
  test('list and count of one instant never count a row twice, nor miss one', () => {
    fc.assert(
      fc.property(events, (history) => {
        const { table, settle, inbox } = play(history, true, 1_000);
        expect(settle().unreadCount).toBe(unread(table));
        expect(inbox.unreadCount).toBe(unread(table));
      }),
      { numRuns: 3_000 },
    );
  });

  test('asked one after the other they miss none, and count twice only what came between the questions', () => {
    fc.assert(
      fc.property(events, (history) => {
        // What becomes of rows meanwhile is for the next poll to settle.
        const others: readonly Event[] = ['touch', 'remove', 'edit'];
        const arrivals = history.filter(([event]) => !others.includes(event));
        const { table, settle } = play(arrivals, false, 1_000);
        const { unreadCount, between } = settle();
        expect(unreadCount).toBeGreaterThanOrEqual(table.length);
        expect(unreadCount).toBeLessThanOrEqual(table.length + between);
      }),
      { numRuns: 3_000 },
    );
  });

  test('another poll settles every doubt, and the list is the newest of the table', () => {
    fc.assert(
      fc.property(
        events,
        fc.boolean(),
        fc.integer({ min: 1, max: 5 }),
        (history, isOneInstant, limit) => {
          const { table, settle, inbox } = play(history, isOneInstant, limit);
          settle();
          expect(inbox.unreadCount).toBe(unread(table));
          expect(inbox.notifications).toEqual([...table].reverse().slice(0, inbox.limit));
        },
      ),
      { numRuns: 3_000 },
    );
  });

  test('no row is ever shown twice, and list and count of one instant agree', () => {
    fc.assert(
      fc.property(events, (history) => {
        const { inbox } = play(history, true, 1_000);
        expect(new Set(ids(inbox)).size).toBe(inbox.notifications.length);
        expect(inbox.unreadCount).toBe(unread(inbox.notifications));
      }),
      { numRuns: 3_000 },
    );
  });
});
