/**
 * Pages that stay open while everything around them breaks, again and again; at
 * the end what they show is compared with the table.
 *
 *     DURATION=10m npm run soak
 */
import { expect, test } from 'vitest';
import { Network } from './support/network.js';
import { eventually, sleep } from './support/wait.js';
import { type Tab, TRANSPORTS, type Visitor, World } from './support/world.js';

const [, amount = '2', unit = 'm'] = /^(\d+)([sm])$/.exec(process.env['DURATION'] ?? '2m') ?? [];
const DURATION_MS = Number(amount) * (unit === 'm' ? 60_000 : 1_000);
/** Tabs that lead before the one that is watched, and are closed one by one. */
const HELPERS = 5;

interface Watched {
  readonly transport: string;
  readonly visitor: Visitor;
  readonly network: Network;
  readonly tab: Tab;
  readonly helpers: Tab[];
}

test(`${DURATION_MS / 1_000} s of faults`, { timeout: DURATION_MS + 300_000 }, async () => {
  const world = await World.start();
  // Every stream ends by its token as well, now and then.
  world.app.tokenLifetime = 45;
  const watched = await Promise.all(TRANSPORTS.map((transport) => open(world, transport)));
  const end = Date.now() + DURATION_MS;
  const writer = write(world, watched, end);
  const faults = await breakThings(world, watched, end);
  await writer;

  for (const { transport, visitor, tab } of watched) {
    const table = (await world.postgres.ids(visitor.user)).sort();
    const isAll = async (): Promise<boolean> => (await tab.probe()).arrived.length >= table.length;
    await eventually(`all ${table.length} rows over ${transport}`, isAll).catch(
      async (error: unknown) => {
        const { status, reason, failures } = await tab.state();
        console.error({ status, reason, failures, faults, arrived: (await tab.arrived()).length });
        throw error;
      },
    );
    const { arrived, statuses, errors, tokens, authenticationErrors } = await tab.probe();
    expect(arrived.map(({ id }) => id).sort()).toEqual(table);
    await tab.shows(await world.postgres.unreadCount(visitor.user));
    const shown = (await tab.state()).notifications.map(({ created_at }) => Date.parse(created_at));
    expect(shown).toEqual(await newest(world, visitor.user));
    expect(authenticationErrors).toEqual([]);
    console.log(
      `${transport}: ${table.length} rows in the table, each once on the page; ` +
        `badge and list as by SQL; ${statuses.filter(({ status }) => status === 'open').length} streams, ` +
        `${tokens.length} tokens, ${errors.length} failed polls`,
    );
  }
  console.log(`faults: ${JSON.stringify(faults)}`);
  for (const { visitor, network } of watched) {
    await visitor.leave();
    await network.stop();
  }
  await world.stop();
});

async function open(world: World, transport: (typeof TRANSPORTS)[number]): Promise<Watched> {
  const network = await Network.before(world.gateway.port);
  const visitor = await world.visitor();
  const options = { transport, url: network.streamUrl };
  const helpers: Tab[] = [];
  for (let n = 0; n < HELPERS; n += 1) helpers.push(await visitor.open(options));
  const tab = await visitor.open({ ...options, page: 'react19' });
  await tab.isReady();
  return { transport, visitor, network, tab, helpers };
}

/** Rows for everybody: one by one, in bursts, and some that are rolled back. */
async function write(world: World, watched: readonly Watched[], end: number): Promise<void> {
  for (let n = 0; Date.now() < end; n += 1) {
    for (const { visitor } of watched) {
      const burst = Array.from(
        { length: Math.random() < 0.05 ? 20 : 1 },
        (_, i) => `row ${n}.${i}`,
      );
      // While there is no database there are no rows.
      await world.postgres.insert(visitor.user, ...burst).catch(() => undefined);
      await world.postgres.pool
        .query('BEGIN; INSERT INTO notifications (user_id) VALUES (gen_random_uuid()); ROLLBACK')
        .catch(() => undefined);
    }
    await sleep(Math.random() * 200);
  }
}

async function breakThings(
  world: World,
  watched: readonly Watched[],
  end: number,
): Promise<Record<string, number>> {
  const { gateway, postgres } = world;
  const pause = (most: number): Promise<void> => sleep(200 + Math.random() * most);
  const faults: Record<string, () => Promise<void>> = {
    'gateway killed': async () => {
      await gateway.kill();
      await pause(6_000);
      await gateway.run();
    },
    'gateway stopped': async () => {
      await gateway.kill('SIGTERM');
      await pause(2_000);
      await gateway.run();
    },
    'gateway frozen': async () => {
      gateway.freeze();
      await pause(8_000);
      gateway.thaw();
    },
    'PostgreSQL restarted': async () => {
      await postgres.stopServer();
      await pause(3_000);
      await postgres.startServer();
    },
    'PostgreSQL crashed': async () => {
      await postgres.crash();
      await pause(1_000);
      await postgres.startServer();
    },
    'network cut': async () => {
      for (const { network } of watched) network.cut();
      await pause(4_000);
      for (const { network } of watched) network.mend();
    },
    'network stranded': async () => {
      for (const { network } of watched) network.strand();
      await pause(1_000);
    },
    'browser offline': async () => {
      for (const { visitor, network } of watched) {
        network.cut();
        await visitor.context.setOffline(true);
      }
      await pause(4_000);
      for (const { visitor, network } of watched) {
        network.mend();
        await visitor.context.setOffline(false);
      }
    },
    'leading tab closed': async () => {
      for (const { helpers } of watched) await helpers.shift()?.page.close();
    },
  };
  const names = Object.keys(faults);
  const done: Record<string, number> = {};
  for (let n = 0; Date.now() < end - 10_000; n += 1) {
    await pause(3_000);
    // Each at least once before chance decides.
    const name = names[n] ?? names[Math.floor(Math.random() * names.length)] ?? '';
    await faults[name]?.();
    done[name] = (done[name] ?? 0) + 1;
  }
  return done;
}

/** When the newest rows were made; rows of one transaction are of one time. */
async function newest(world: World, user: string): Promise<number[]> {
  const { rows } = await world.postgres.pool.query<{ created_at: Date }>(
    'SELECT created_at FROM notifications WHERE user_id = $1 ORDER BY created_at DESC LIMIT 20',
    [user],
  );
  return rows.map(({ created_at }) => created_at.getTime());
}
