/** Whatever breaks: nothing lost, nothing doubled, the badge right. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Network } from './support/network.js';
import { eventually, sleep } from './support/wait.js';
import { type Tab, TRANSPORTS, type Visitor, World } from './support/world.js';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.clear());
afterAll(() => world.stop());

/** Inserts a row every few milliseconds until it is told to stop; gives their number. */
function writing(visitor: Visitor): () => Promise<number> {
  const isOver = new AbortController();
  const write = async (): Promise<number> => {
    let count = 0;
    while (!isOver.signal.aborted) {
      const row = world.postgres.insert(visitor.user, `row ${count + 1}`);
      // While there is no database there are no rows.
      count += await row.then(() => 1).catch(() => 0);
      await sleep(30);
    }
    return count;
  };
  const rows = write();
  return () => {
    isOver.abort();
    return rows;
  };
}

/** Every row of the table came to the page once, and the badge counts them. */
async function hasAll(tab: Tab, visitor: Visitor): Promise<void> {
  const ids = (await world.postgres.ids(visitor.user)).sort();
  await eventually('all rows', async () => (await tab.probe()).arrived.length >= ids.length);
  expect((await tab.probe()).arrived.map(({ id }) => id).sort()).toEqual(ids);
  await tab.shows(await world.postgres.unreadCount(visitor.user));
}

describe.each(TRANSPORTS)('over %s', (transport) => {
  test('a gateway that is killed and comes back, while rows are written', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport });
    await tab.isReady();
    const stop = writing(visitor);
    for (let round = 0; round < 2; round += 1) {
      await sleep(500);
      await world.gateway.kill();
      await tab.is('waiting');
      await sleep(1_000);
      await world.gateway.run();
      await tab.is('open');
    }
    await stop();
    await hasAll(tab, visitor);
    await visitor.leave();
  });

  test('a gateway that says goodbye: no failure is counted, and it is asked again when it said', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport });
    await tab.isReady();
    // A stream younger than five seconds has not held yet.
    await sleep(5_200);
    const stop = writing(visitor);
    await sleep(300);
    const killed = world.gateway.kill('SIGTERM');
    await tab.is('waiting');
    const { statuses } = await tab.probe();
    expect(statuses.find(({ status }) => status === 'waiting')?.failures).toBe(0);
    await killed;
    await world.gateway.run();
    await tab.is('open');
    await sleep(300);
    await stop();
    await hasAll(tab, visitor);
    await visitor.leave();
  });

  test('a network that goes away and comes back', async () => {
    const network = await Network.before(world.gateway.port);
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport, url: network.streamUrl });
    await tab.isReady();
    await world.postgres.insert(visitor.user, 'before');
    await tab.shows(1);
    network.cut();
    await visitor.context.setOffline(true);
    await eventually('three failures', async () => (await tab.state()).failures >= 3);
    await world.postgres.insert(visitor.user, 'meanwhile');
    network.mend();
    const online = Date.now();
    await visitor.context.setOffline(false);
    await tab.is('open');
    console.log(`online over ${transport}: open again after ${Date.now() - online} ms`);
    await hasAll(tab, visitor);
    await visitor.leave();
    await network.stop();
  });

  test('a network that comes back with another address: the old stream is not trusted', async () => {
    const network = await Network.before(world.gateway.port);
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport, url: network.streamUrl });
    await tab.isReady();
    await visitor.context.setOffline(true);
    network.strand();
    await world.postgres.insert(visitor.user, 'meanwhile');
    await sleep(300);
    expect(await tab.arrived()).toEqual([]);
    expect((await tab.state()).status).toBe('open');
    await visitor.context.setOffline(false);
    await hasAll(tab, visitor);
    // A poll may have brought the row before the stream is open.
    await eventually('another stream', async () => (await tab.probe()).statuses.length >= 4);
    const { statuses } = await tab.probe();
    // The watchdog would have noticed too, as a failure, seconds later.
    expect(statuses.map(({ status }) => status)).toEqual([
      'connecting',
      'open',
      'connecting',
      'open',
    ]);
    await visitor.leave();
    await network.stop();
  });

  test('a PostgreSQL that is restarted: the stream stays open and misses nothing', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport });
    await tab.isReady();
    const stop = writing(visitor);
    await sleep(300);
    await world.postgres.stopServer();
    await sleep(500);
    await world.postgres.startServer();
    await sleep(1_000);
    await stop();
    await hasAll(tab, visitor);
    expect((await tab.probe()).statuses.map(({ status }) => status)).toEqual([
      'connecting',
      'open',
    ]);
    await visitor.leave();
  });

  test('a gateway that falls silent: two and a half heartbeats later the stream is asked for again', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport });
    await tab.isReady();
    world.gateway.freeze();
    const frozen = Date.now();
    await tab.is('waiting');
    console.log(`silence over ${transport}: noticed after ${Date.now() - frozen} ms of 5000`);
    expect(Date.now() - frozen).toBeGreaterThan(2_500);
    world.gateway.thaw();
    await world.postgres.insert(visitor.user, 'meanwhile');
    await tab.is('open');
    await hasAll(tab, visitor);
    await visitor.leave();
  });

  test('the feature flag is off: rows come by polling, and there is no second attempt', async () => {
    await world.gateway.kill('SIGTERM');
    await world.gateway.run('--enable-sse-notifications=false');
    const visitor = await world.visitor();
    await world.postgres.insert(visitor.user, 'there before');
    const tab = await visitor.open({ transport });
    await tab.is('polling');
    expect((await tab.state()).reason).toBe('off');
    await tab.shows(1);
    await world.postgres.insert(visitor.user, 'later');
    await tab.page.evaluate(() => window.probe.client?.refresh());
    await tab.shows(2);
    expect(await tab.arrived()).toEqual(['later']);
    expect((await tab.probe()).statuses.map(({ status }) => status)).toEqual([
      'connecting',
      'polling',
    ]);

    await world.gateway.kill('SIGTERM');
    await world.gateway.run();
    await tab.page.evaluate(() => window.probe.client?.retry());
    await tab.is('open');
    await visitor.leave();
  });

  test('refused softly, a browser with too many streams comes back by itself', async () => {
    await world.gateway.kill('SIGTERM');
    await world.gateway.run('--max-streams-per-user=1');
    const visitor = await world.visitor();
    const first = await visitor.open({ transport, share: 'no' });
    await first.isReady();
    const second = await visitor.open({ transport, share: 'no' });
    await second.is('waiting');
    await eventually('a second refusal', async () => (await second.state()).failures >= 2);
    await world.postgres.insert(visitor.user, 'one');
    await first.shows(1);
    await first.page.close();
    await second.is('open');
    await second.shows(1);
    await world.gateway.kill('SIGTERM');
    await world.gateway.run();
    await visitor.leave();
  });

  test('an address where no gateway is: polled, said once, and asked again', async () => {
    const visitor = await world.visitor();
    await world.postgres.insert(visitor.user, 'there before');
    const tab = await visitor.open({ transport, url: '/api/nowhere' });
    await tab.shows(1);
    await eventually('four attempts', async () => (await tab.state()).failures >= 4);
    const { errors } = await tab.probe();
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatch(/NotificationClientError: \/api\/nowhere answers 404 and no stream/);
    expect(visitor.warnings.join()).toContain(errors[0]);
    await visitor.leave();
  });

  test('a cursor that nobody can honour: the list is fetched again', async () => {
    await world.gateway.kill('SIGTERM');
    await world.gateway.run('--replay-limit=3');
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport });
    await tab.isReady();
    await world.gateway.kill();
    await tab.is('waiting');
    await world.postgres.insert(visitor.user, ...Array.from({ length: 30 }, (_, n) => `row ${n}`));
    await world.gateway.run('--replay-limit=3');
    await tab.is('open');
    await tab.shows(30);
    expect((await tab.state()).notifications).toHaveLength(20);
    await world.postgres.insert(visitor.user, 'after');
    await tab.shows(31);
    await world.gateway.kill('SIGTERM');
    await world.gateway.run();
    await visitor.leave();
  });
});

test('switched off by the app, no stream is asked for at all', async () => {
  const visitor = await world.visitor();
  await world.postgres.insert(visitor.user, 'one');
  await world.isQuiet();
  const tab = await visitor.open({ page: 'react19', stream: 'no' });
  await tab.shows(1);
  const { status, reason } = await tab.state();
  expect({ status, reason }).toEqual({ status: 'polling', reason: 'disabled' });
  expect(await world.gateway.streams()).toBe(0);
  await visitor.leave();
});

test('without an API of the app the stream alone is shown', async () => {
  const visitor = await world.visitor();
  const tab = await visitor.open({ api: 'none' });
  await tab.is('open');
  await world.postgres.insert(visitor.user, 'one', 'two');
  await tab.shows(2);
  await visitor.leave();
});

test('a list that brings its count is as right', async () => {
  const visitor = await world.visitor();
  await world.postgres.insert(visitor.user, 'one', 'two');
  const tab = await visitor.open({ api: 'page' });
  await tab.isReady();
  await tab.shows(2);
  const stop = writing(visitor);
  for (let poll = 0; poll < 20; poll += 1) {
    await tab.page.evaluate(() => window.probe.client?.refresh());
    await sleep(50);
  }
  const written = await stop();
  await eventually('the last row', async () => {
    const { notifications } = await tab.state();
    return notifications[0]?.title === `row ${written}`;
  });
  // Exact at once, by the rows alone: no settling poll was needed.
  await tab.shows(written + 2);
  await visitor.leave();
});
