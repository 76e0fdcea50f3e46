/**
 * Pages that stay open while the fault test of the whole repository breaks the
 * gateways, PostgreSQL and the network under them, with hundreds of other streams
 * that all come back at once; after every fault what they show is compared with
 * the table.
 *
 *     make soak-browser DURATION=10m
 */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { App } from './support/app.js';
import { launch } from './support/browser.js';
import { Faults } from './support/faults.js';
import { eventually, median, sleep } from './support/wait.js';
import { type Tab, TRANSPORTS, Visitor } from './support/world.js';

const [, amount = '2', unit = 'm'] = /^(\d+)([sm])$/.exec(process.env['DURATION'] ?? '2m') ?? [];
const DURATION_MS = Number(amount) * (unit === 'm' ? 60_000 : 1_000);
/** Other streams on the same gateways: the storm at each of their ends. */
const OTHER_STREAMS = 300;
/** Tabs of each visitor beside the one that is watched from beginning to end. */
const OTHER_TABS = 4;
/**
 * How long a page may take to be right: its road may be a black hole for eight
 * seconds, and be cut again by the next fault while it backs off.
 */
const PATIENCE_MS = 120_000;

/** What the table says of one user's rows. */
interface Table {
  /** Each row's status, by id. */
  readonly rows: ReadonlyMap<string, string>;
  readonly unread: number;
  /** When the newest were made, newest first; those of one transaction are of one time. */
  readonly newest: readonly number[];
}

interface Watched {
  readonly name: string;
  readonly visitor: Visitor;
  readonly tab: Tab;
  readonly others: Tab[];
  /** Rows that may be there: inserted, or nobody knows. */
  readonly written: Set<string>;
}

test(`${DURATION_MS / 1_000} s of faults`, { timeout: DURATION_MS + 600_000 }, async () => {
  const [app, browser] = [await App.start(), await launch()];
  const faults = await Faults.start(
    app.origin,
    `--duration=${DURATION_MS}ms`,
    // Half of them are there from the beginning, the other half comes later.
    `--clients=${OTHER_STREAMS / 2}`,
    '--users=60',
    '--rate=40',
  );
  const pool = (app.pool = faults.pool());
  onTestFinished(async () => {
    await browser.close();
    await app.stop();
    await pool.end();
    await faults.dismiss();
    console.log(faults.report.join('\n'));
  });
  app.secret = faults.stage.secret;
  // Every stream ends by its token as well, now and then.
  app.tokenLifetime = 45;

  const watched = await Promise.all(
    TRANSPORTS.map(async (transport, place): Promise<Watched> => {
      const url = faults.stage.streams[place % faults.stage.streams.length] ?? '';
      const visitor = new Visitor(app.origin, url, await browser.newContext());
      const others: Tab[] = [];
      for (let n = 0; n < OTHER_TABS; n += 1) others.push(await visitor.open({ transport }));
      const page = place === 0 ? 'react19' : 'react18';
      const tab = await visitor.open({ transport, page });
      await tab.isReady();
      return { name: `${page} over ${transport}`, visitor, tab, others, written: new Set() };
    }),
  );

  const browserFaults: Record<string, number> = {};
  const took: number[] = [];
  let compared = 0;
  for (let round = 0; !faults.isOver; round += 1) {
    const writing = new AbortController();
    const writers = watched.map((one) => write(pool, one, writing.signal));
    if (round % 4 === 1) {
      const name = await breakBrowser(watched, round);
      browserFaults[name] = (browserFaults[name] ?? 0) + 1;
    }
    // A fault at least has ended since the last look at the pages.
    await sleep(1_000);
    await faults.until(compared + 1);
    writing.abort();
    await Promise.all(writers);
    if (round % 5 === 2) await mark(watched);

    const ended = faults.count;
    const began = Date.now();
    for (const one of watched) await isRight(pool, one, faults);
    took.push(Date.now() - began);
    compared = ended;
  }
  // Whole again; whatever had not arrived by then has.
  for (const one of watched) await isRight(pool, one, faults);

  for (const one of watched) {
    const { name, tab, visitor } = one;
    const { arrived, statuses, errors, tokens, authenticationErrors } = await tab.probe();
    expect(authenticationErrors).toEqual([]);
    const table = await read(pool, visitor.user);
    const streams = statuses.filter(({ status }) => status === 'open').length;
    console.log(
      `${name}: ${table.rows.size} rows in the table, ${arrived.length} on the page, each once; ` +
        `${streams} streams, ${tokens.length} tokens, ${errors.length} failed polls or marks`,
    );
  }
  console.log(`faults of the surroundings: ${faults.count} ${JSON.stringify(faults.ended)}`);
  console.log(`faults of the browser: ${JSON.stringify(browserFaults)}`);
  console.log(
    `${took.length + 1} comparisons with the table by SQL, no mismatch; right after ` +
      `${median(took)} ms (median), ${Math.max(...took)} ms (the longest)`,
  );
  for (const { visitor } of watched) await visitor.leave();
  expect(await faults.dismiss()).toBe(true);
});

/** Rows for one user: one by one, in bursts, and some that are rolled back. */
async function write(pool: pg.Pool, { visitor, written }: Watched, stop: AbortSignal) {
  while (!stop.aborted) {
    const ids = Array.from({ length: Math.random() < 0.05 ? 25 : 1 }, () => randomUUID());
    for (const id of ids) written.add(id);
    const isTakenBack = Math.random() < 0.1;
    // While there is no database there are no rows; and where the connection was
    // lost over the answer, only the table knows.
    await insert(pool, visitor.user, ids, isTakenBack).catch(() => undefined);
    if (isTakenBack) for (const id of ids) written.delete(id);
    await sleep(Math.random() * 200);
  }
}

async function insert(pool: pg.Pool, user: string, ids: readonly string[], isTakenBack: boolean) {
  const client = await pool.connect();
  let error: Error | undefined;
  try {
    await client.query('BEGIN');
    await client.query(
      `INSERT INTO notifications (id, user_id, title, message)
       SELECT id, $1, 'row', 'text' FROM unnest($2::uuid[]) id`,
      [user, ids],
    );
    await client.query(isTakenBack ? 'ROLLBACK' : 'COMMIT');
  } catch (caught) {
    error = caught as Error;
    throw caught;
  } finally {
    client.release(error);
  }
}

/** What only a browser can do to itself. */
async function breakBrowser(watched: readonly Watched[], round: number): Promise<string> {
  if (round % 8 === 1) {
    for (const { visitor } of watched) await visitor.context.setOffline(true);
    await sleep(200 + Math.random() * 4_000);
    for (const { visitor } of watched) await visitor.context.setOffline(false);
    return 'offline';
  }
  // The tabs that were there first lead; a new one takes its place at the end.
  for (const { visitor, others, tab } of watched) {
    await others.shift()?.page.close();
    const transport = new URL(tab.page.url()).searchParams.get('transport');
    others.push(await visitor.open({ transport: transport as (typeof TRANSPORTS)[number] }));
  }
  return 'leading tab closed';
}

/** The user reads one, or now and then all. The app's API may be down: then it is undone. */
async function mark(watched: readonly Watched[]): Promise<void> {
  for (const { tab } of watched) {
    await tab.page.evaluate(async (isAll) => {
      const { client } = window.probe;
      const [newest] = client?.getState().notifications ?? [];
      const marking = isAll ? client?.markAllAsRead() : client?.markAsRead(newest?.id ?? '');
      await marking?.catch(() => undefined);
    }, Math.random() < 0.3);
  }
}

/**
 * Waits until every tab shows what the table has at that moment, and fails at
 * once where a tab was told of a row twice, or of one that never was.
 */
async function isRight(pool: pg.Pool, one: Watched, faults: Faults): Promise<void> {
  const { name, visitor, tab, others, written } = one;
  // What an old primary had sent before its end, a new one may not know.
  const isPromoted = (): boolean => (faults.ended['promotion'] ?? 0) > 0;
  let wrong = '';
  let fatal = '';
  const giveUp = (why: string): boolean => {
    fatal = why;
    return true;
  };
  const isSo = async (): Promise<boolean> => {
    const table = await read(pool, visitor.user);
    for (const each of [tab, ...others]) {
      const shown = await look(each);
      // Not to be forgiven, however long one waits.
      if (new Set(shown.arrived).size < shown.arrived.length) return giveUp('a row came twice');
      if (shown.arrived.some((id) => !written.has(id))) return giveUp('a row that never was');
      // What was before a resync is in the list, as far as that goes, and is not announced.
      const isWhole = each === tab && shown.resyncs.every((reason) => reason === 'connected');
      wrong = difference(shown, table, isWhole, isPromoted());
      if (wrong !== '') return false;
    }
    return true;
  };
  await eventually(`${name} as in the table`, isSo, PATIENCE_MS).catch(async (error: unknown) => {
    const { status, reason, failures } = await tab.state();
    const { statuses, errors } = await tab.probe();
    console.error(wrong, { status, reason, failures });
    console.error({ underWay: [...faults.underWay.values()], ended: faults.ended });
    console.error({ statuses: statuses.slice(-10), errors: errors.slice(-5), now: Date.now() });
    throw error;
  });
  expect(`${name}: ${fatal}`).toBe(`${name}: `);
  expect(visitor.complaints).toEqual([]);
}

/** In what a tab is not as the table; empty where it is. */
function difference(
  shown: Awaited<ReturnType<typeof look>>,
  table: Table,
  isWhole: boolean,
  isPromoted: boolean,
): string {
  if (shown.unread !== table.unread) return `${shown.unread} unread, not ${table.unread}`;
  if (String(shown.newest) !== String(table.newest)) {
    return `lists [${shown.newest.join(', ')}], not [${table.newest.join(', ')}]`;
  }
  if (shown.statuses.some(([id, status]) => table.rows.get(id) !== status)) return 'read or unread';
  const there = shown.arrived.filter((id) => table.rows.has(id)).length;
  if (isWhole && there < table.rows.size) return `${there} arrived of ${table.rows.size}`;
  if (there < shown.arrived.length && !isPromoted) return 'arrived, and is not in the table';
  return '';
}

async function look(tab: Tab) {
  return tab.page.evaluate(() => {
    const { unreadCount, notifications = [] } = window.probe.client?.getState() ?? {};
    return {
      unread: unreadCount,
      newest: notifications.map(({ created_at }) => Date.parse(created_at)),
      statuses: notifications.map(({ id, status }) => [id, status] as const),
      arrived: window.probe.arrived.map(({ id }) => id),
      resyncs: window.probe.resyncs,
    };
  });
}

async function read(pool: pg.Pool, user: string): Promise<Table> {
  const { rows } = await pool.query<{ id: string; status: string; created_at: Date }>(
    'SELECT id, status, created_at FROM notifications WHERE user_id = $1 ORDER BY created_at DESC',
    [user],
  );
  return {
    rows: new Map(rows.map(({ id, status }) => [id, status])),
    unread: rows.filter(({ status }) => status === 'unread').length,
    newest: rows.slice(0, 20).map(({ created_at }) => created_at.getTime()),
  };
}
