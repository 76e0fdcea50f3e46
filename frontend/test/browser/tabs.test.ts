/** One stream per browser, over HTTP/1.1, where the seventh would hang. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { openForHarm } from './support/harm.js';
import { isFirefox } from './support/prerequisites.js';
import { eventually, median, sleep } from './support/wait.js';
import { Tab, TRANSPORTS, type Visitor, World } from './support/world.js';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.clear());
afterAll(() => world.stop());

/** More rows than a list of the app's has. */
const MANY = Array.from({ length: 25 }, (_, n) => n);

/** Whether this tab has the stream: whether it is the one that holds the lock. */
async function leads({ page }: Tab): Promise<boolean> {
  return page.evaluate(async () => {
    // A lock of its own tells a page what the browser calls it.
    const name = `own ${crypto.randomUUID()}`;
    return navigator.locks.request(name, async () => {
      const { held = [] } = await navigator.locks.query();
      const own = held.find((lock) => lock.name === name);
      const shared = held.find((lock) => lock.name?.startsWith('notify-gateway '));
      return shared !== undefined && shared.clientId === own?.clientId;
    });
  });
}

async function leaderOf(tabs: readonly Tab[]): Promise<Tab> {
  for (const tab of tabs) if (await leads(tab)) return tab;
  throw new Error('no tab leads');
}

/** Two tabs that are ready: the one that has the stream, and the other. */
async function leaderAndFollower(visitor: Visitor): Promise<[Tab, Tab]> {
  await world.isQuiet();
  const [one, other] = [await visitor.open(), await visitor.open()];
  await one.isReady();
  await other.isReady();
  return (await leads(one)) ? [one, other] : [other, one];
}

/** As the button does; Playwright's own waits in vain for a page that Firefox has kept. */
async function goBack({ page }: Tab): Promise<void> {
  await page.evaluate(() => {
    history.back();
  });
}

/** Waits for the page, which is so often restored and not loaded anew. */
async function isRestored({ page }: Tab, times: number): Promise<void> {
  await eventually(`a page restored ${times} times`, () =>
    page.evaluate(
      (count) => window.probe.client !== null && window.probe.restored === count,
      times,
    ),
  );
}

describe.each(TRANSPORTS)('over %s', (transport) => {
  test('twelve tabs share one stream; when its tab is closed the next takes over', async () => {
    const visitor = await world.visitor();
    await world.isQuiet();
    const tabs: Tab[] = [];
    for (let n = 0; n < 12; n += 1) tabs.push(await visitor.open({ transport }));
    for (const tab of tabs) await tab.isReady();
    expect(await world.gateway.streams()).toBe(1);
    await world.postgres.insert(visitor.user, 'one', 'two');
    for (const tab of tabs) await tab.shows(2);

    const takenOver: number[] = [];
    for (let change = 0; change < 3; change += 1) {
      const leader = await leaderOf(tabs);
      tabs.splice(tabs.indexOf(leader), 1);
      const counted = (await leader.state()).unreadCount;
      await leader.page.close();
      const closed = Date.now();
      // Committed while nobody streams, and more than the list has: the successor
      // goes on from the cursor that its predecessor has shared.
      await world.postgres.insert(visitor.user, ...MANY.map((n) => `row ${n} of change ${change}`));
      for (const tab of tabs) await tab.shows(counted + MANY.length);
      takenOver.push(Date.now() - closed);
      await eventually('one stream', async () => (await world.gateway.streams()) === 1);
    }
    expect(median(takenOver)).toBeLessThan(1_000);
    console.log(`${transport}: rows on all tabs ${takenOver.join(', ')} ms after the leader's end`);
    const ids = (await world.postgres.ids(visitor.user)).sort();
    for (const tab of tabs) {
      await tab.shows(ids.length);
      await eventually('all rows', async () => (await tab.probe()).arrived.length >= ids.length);
      expect((await tab.probe()).arrived.map(({ id }) => id).sort()).toEqual(ids);
    }
    await visitor.leave();
    await eventually('no stream', async () => (await world.gateway.streams()) === 0);
  });

  test('a leader whose page crashes is replaced as well', async () => {
    const visitor = await world.visitor();
    const pages = [
      await openForHarm(visitor, { transport }),
      await openForHarm(visitor, { transport }),
    ];
    const tabs = pages.map(([tab]) => tab);
    for (const tab of tabs) await tab.isReady();
    const leader = await leaderOf(tabs);
    const [other] = tabs.filter((tab) => tab !== leader);
    for (const [tab, harm] of pages) if (tab === leader) await harm.crash();
    await world.postgres.insert(visitor.user, 'after the crash');
    await other?.shows(1);
    await visitor.leave();
  });

  test('what is read in one tab is read in all', async () => {
    const visitor = await world.visitor();
    await world.postgres.insert(visitor.user, 'one', 'two');
    const tabs = [];
    for (let n = 0; n < 3; n += 1) tabs.push(await visitor.open({ transport }));
    for (const tab of tabs) await tab.shows(2);
    await tabs[1]?.page.evaluate(() => {
      const [first] = window.probe.client?.getState().notifications ?? [];
      return window.probe.client?.markAsRead(first?.id ?? '');
    });
    for (const tab of tabs) await tab.shows(1);
    await tabs[2]?.page.evaluate(() => window.probe.client?.markAllAsRead());
    for (const tab of tabs) await tab.shows(0);
    expect(await world.postgres.unreadCount(visitor.user)).toBe(0);
    await visitor.leave();
  });

  test('what is changed or deleted by anybody shows in all tabs, without a poll', async () => {
    const visitor = await world.visitor();
    const tabs = [await visitor.open({ transport }), await visitor.open({ transport })];
    for (const tab of tabs) await tab.isReady();
    await world.postgres.insert(visitor.user, 'one', 'two', 'three');
    for (const tab of tabs) await tab.shows(3);
    // Polls that follow what has just come are over; the next is in a minute.
    await sleep(2_500);
    const polls = world.app.requests.length;
    const of = `WHERE user_id = '${visitor.user}'`;
    await world.postgres.psql(`UPDATE notifications SET status = 'read' ${of} AND title = 'one'`);
    for (const tab of tabs) await tab.shows(2);
    await world.postgres.psql(`UPDATE notifications SET title = 'second' ${of} AND title = 'two'`);
    await world.postgres.psql(`DELETE FROM notifications ${of} AND title = 'three'`);
    for (const tab of tabs) {
      await tab.shows(1);
      const { notifications } = await tab.state();
      expect(notifications.map(({ title }) => title).sort()).toEqual(['one', 'second']);
      // These are no arrivals.
      expect((await tab.probe()).arrived).toHaveLength(3);
    }
    expect(world.app.requests.length).toBe(polls);
    await visitor.leave();
  });

  test('the back button: a page that is kept and comes back streams again', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport });
    await tab.isReady();
    await tab.page.goto(`${world.app.origin}/page/elsewhere`);
    await eventually('no stream', async () => (await world.gateway.streams()) === 0);
    await world.postgres.insert(visitor.user, 'meanwhile');
    await goBack(tab);
    // Firefox keeps no page that has a stream or waits for one; it is loaded anew.
    await isRestored(tab, isFirefox ? 0 : 1);
    await tab.is('open');
    await tab.shows(1);
    await visitor.leave();
  });
});

test('the back button: a page without a stream is kept as well, and polls when it comes back', async () => {
  const visitor = await world.visitor();
  const tab = await visitor.open({ stream: 'no' });
  await tab.is('polling');
  // Firefox keeps no page that waits for an answer; the next poll is in a minute.
  await sleep(1_000);
  await tab.page.goto(`${world.app.origin}/page/elsewhere`);
  await world.postgres.insert(visitor.user, 'meanwhile');
  await goBack(tab);
  await isRestored(tab, 1);
  await tab.shows(1);
  await visitor.leave();
});

// In Firefox a clock in our hand waits for all pages, for the one that stands still too.
const withClock = test.skipIf(isFirefox);
withClock('a leader that stands still with the lock in its hand has it taken away', async () => {
  const visitor = await world.visitor();
  await world.isQuiet();
  const [leader, harm] = await openForHarm(visitor);
  await leader.isReady();
  // Three minutes are to pass at once for this one: its clock is in our hand.
  const page = await visitor.context.newPage();
  await page.clock.install();
  await page.goto(leader.page.url());
  await page.waitForFunction(() => window.probe.client?.getState().status === 'open');
  const other = new Tab(page);
  expect(await leaderOf([leader, other])).toBe(leader);

  // Chromium may let a frozen page go on when another comes or goes, so this one is
  // mute as well.
  const muted = await leader.page.evaluateHandle(() => {
    const proto = BroadcastChannel.prototype;
    const own = Object.getOwnPropertyDescriptor(proto, 'postMessage');
    proto.postMessage = () => undefined;
    return () => {
      if (own) Object.defineProperty(proto, 'postMessage', own);
    };
  });
  await harm.freeze();
  await world.postgres.insert(visitor.user, 'while nobody leads');
  await page.clock.fastForward(181_000);
  await eventually('the lead', () => leads(other));
  await other.shows(1);
  await harm.thaw();
  await muted.evaluate((speakAgain) => {
    speakAgain();
  });

  await leader.shows(1);
  expect(await leaderOf([leader, other])).toBe(other);
  await eventually('one stream', async () => (await world.gateway.streams()) === 1);
  await world.postgres.insert(visitor.user, 'after');
  await leader.shows(2);
  await other.shows(2);
  await visitor.leave();
});

test('the tab that is looked at leads', async () => {
  const visitor = await world.visitor();
  const [first, second] = await leaderAndFollower(visitor);
  await second.look(false);
  // Nobody but a hidden tab could take it, so it stays where it is.
  await first.look(false);
  await sleep(300);
  expect(await leads(first)).toBe(true);
  let count = 0;
  for (const [hidden, seen] of [
    [first, second],
    [second, first],
  ] as const) {
    await hidden.look(false);
    await seen.look(true);
    await eventually('the lead of the tab in view', () => leads(seen));
    await world.postgres.insert(visitor.user, 'a row');
    count += 1;
    await seen.shows(count);
    await hidden.shows(count);
    await eventually('one stream', async () => (await world.gateway.streams()) === 1);
  }
  // A third that is opened in the foreground takes it from the two behind it.
  await first.look(false);
  const third = await visitor.open();
  await eventually('the lead of the new tab', () => leads(third));
  await visitor.leave();
});

test('a tab that comes into view beside a leader that does not answer leads within two seconds', async () => {
  const visitor = await world.visitor();
  const [leader, follower] = await leaderAndFollower(visitor);
  await follower.look(false);
  await leader.page.evaluate(() => {
    BroadcastChannel.prototype.postMessage = () => undefined;
  });
  const began = Date.now();
  await follower.look(true);
  await eventually('the lead', () => leads(follower));
  expect(Date.now() - began).toBeLessThan(4_000);
  await world.postgres.insert(visitor.user, 'a row');
  await follower.shows(1);
  await visitor.leave();
});

// Chromium lets a page that its DevTools have frozen go on when a broadcast comes.
const standing = test.skipIf(!isFirefox);
standing('a tab that comes into view beside a leader that stands still leads', async () => {
  const visitor = await world.visitor();
  await world.isQuiet();
  const [leader, harm] = await openForHarm(visitor);
  await leader.isReady();
  const other = await visitor.open();
  await other.isReady();
  await other.look(false);
  expect(await leads(leader)).toBe(true);
  await harm.freeze();
  try {
    await other.look(true);
    await eventually('the lead', () => leads(other));
    await world.postgres.insert(visitor.user, 'meanwhile');
    await other.shows(1);
  } finally {
    // A browser with a page that stands still would not close.
    await harm.thaw();
  }
  await leader.shows(1);
  expect(await leads(other)).toBe(true);
  await eventually('one stream', async () => (await world.gateway.streams()) === 1);
  await visitor.leave();
});

test('two users of one browser share nothing', async () => {
  const [one, other] = [await world.visitor(), await world.visitor()];
  await world.isQuiet();
  const tabOfOne = await one.open();
  const url = new URL(tabOfOne.page.url());
  url.searchParams.set('user', other.user);
  const page = await one.context.newPage();
  await page.goto(url.href);
  await page.waitForFunction(() => window.probe.client?.getState().status === 'open');
  await tabOfOne.isReady();
  expect(await world.gateway.streams()).toBe(2);
  await world.postgres.insert(one.user, 'secret');
  await tabOfOne.shows(1);
  await sleep(300);
  expect(await page.evaluate(() => window.probe.client?.getState().unreadCount)).toBe(0);
  await other.leave();
  await one.leave();
});

test('where locks are refused a tab has one stream, and closes it', async () => {
  const visitor = await world.visitor();
  await visitor.context.addInitScript(() => {
    // Firefox has no locks in the empty page that each tab begins with.
    if (!('locks' in navigator)) return;
    // As in a sandboxed frame.
    LockManager.prototype.request = () => Promise.reject(new DOMException('no', 'SecurityError'));
  });
  await world.isQuiet();
  const tab = await visitor.open();
  await tab.isReady();
  await tab.look(false);
  await tab.look(true);
  await sleep(2_500);
  expect(await world.gateway.streams()).toBe(1);
  await tab.page.evaluate(() => window.probe.client?.stop());
  await eventually('no stream', async () => (await world.gateway.streams()) === 0);
  await visitor.leave();
});

test('without locks each tab streams for itself', async () => {
  const visitor = await world.visitor();
  await visitor.context.addInitScript(() => {
    Reflect.deleteProperty(Navigator.prototype, 'locks');
  });
  await world.isQuiet();
  const tabs = [await visitor.open(), await visitor.open()];
  for (const tab of tabs) await tab.isReady();
  expect(await world.gateway.streams()).toBe(2);
  await world.postgres.insert(visitor.user, 'one');
  for (const tab of tabs) await tab.shows(1);
  await visitor.leave();
});
