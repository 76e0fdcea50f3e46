/** Who may, for how long, and what becomes of the page when they may not. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { eventually, sleep } from './support/wait.js';
import { TRANSPORTS, World } from './support/world.js';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.clear());
afterAll(() => world.stop());
beforeEach(() => {
  world.app.tokenLifetime = 3600;
  world.app.isLoginOpen = true;
});

describe.each(TRANSPORTS)('over %s', (transport) => {
  test('a token that expires mid-stream is replaced, and nothing is missed', async () => {
    // Too short to be renewed early.
    world.app.tokenLifetime = 7;
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport });
    await tab.isReady();
    world.app.tokenLifetime = 3600;
    await eventually('a fresh token', async () => (await tab.probe()).tokens.includes(true));
    await world.postgres.insert(visitor.user, 'meanwhile');
    await tab.is('open');
    await tab.shows(1);
    expect(await tab.arrived()).toEqual(['meanwhile']);
    expect((await tab.probe()).authenticationErrors).toEqual([]);
    await visitor.leave();
  });

  test('a token is renewed before it ends', async () => {
    world.app.tokenLifetime = 12;
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport });
    await tab.isReady();
    const opened = Date.now();
    world.app.tokenLifetime = 3600;
    await eventually('a fresh token', async () => (await tab.probe()).tokens.includes(true));
    // A tenth of its life before; the gateway would have said so at its end.
    expect(Date.now() - opened).toBeLessThan(12_000);
    await tab.is('open');
    const { statuses } = await tab.probe();
    expect(statuses.map(({ status }) => status)).toEqual([
      'connecting',
      'open',
      'connecting',
      'open',
    ]);
    await visitor.leave();
  });

  test('a session that is over is an authentication error, once, and everything stops', async () => {
    world.app.tokenLifetime = 4;
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport });
    await tab.isReady();
    // The app renews, but what it gives is of no use any more.
    world.app.tokenLifetime = -10;
    await tab.is('stopped');
    expect((await tab.state()).reason).toBe('authentication');
    expect((await tab.probe()).authenticationErrors).toHaveLength(1);
    const requests = world.app.requests.length;
    await sleep(1_000);
    expect(world.app.requests).toHaveLength(requests);

    world.app.tokenLifetime = 3600;
    await world.postgres.insert(visitor.user, 'meanwhile');
    await tab.page.evaluate(() => window.probe.client?.retry());
    await tab.is('open');
    await tab.shows(1);
    await visitor.leave();
  });

  test('a tab opened after a new login streams, whatever older tabs were told', async () => {
    const visitor = await world.visitor();
    // Of no use from the beginning.
    world.app.tokenLifetime = -10;
    const old = [await visitor.open({ transport }), await visitor.open({ transport })];
    for (const tab of old) await tab.is('stopped');
    world.app.tokenLifetime = 3600;
    const tab = await visitor.open({ transport });
    await tab.isReady();
    expect((await tab.probe()).authenticationErrors).toEqual([]);
    for (const stopped of old) {
      expect((await stopped.probe()).authenticationErrors).toHaveLength(1);
      await stopped.page.evaluate(() => window.probe.client?.retry());
      await stopped.is('open');
    }
    await visitor.leave();
  });

  test('an app that cannot give a token just now is asked again', async () => {
    world.app.tokenLifetime = 4;
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport });
    await tab.isReady();
    world.app.isLoginOpen = false;
    await eventually('two failures', async () => (await tab.state()).failures >= 2);
    world.app.tokenLifetime = 3600;
    world.app.isLoginOpen = true;
    await tab.is('open');
    expect((await tab.probe()).authenticationErrors).toEqual([]);
    await visitor.leave();
  });

  test('logged out everywhere: a fresh token is asked for once, and is let in', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport });
    await tab.isReady();
    const before = (await tab.probe()).tokens.length;
    await world.postgres.psql(
      `INSERT INTO notify_gateway.revocation (user_id) VALUES ('${visitor.user}')`,
    );
    await tab.is('waiting');
    await tab.is('open');
    expect((await tab.probe()).tokens.slice(before)).toEqual([true]);
    await world.postgres.insert(visitor.user, 'after');
    await tab.shows(1);
    await visitor.leave();
  });

  test('locked out: the fresh token is refused, and that is the end', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ transport });
    await tab.isReady();
    await world.postgres.psql(
      `INSERT INTO notify_gateway.revocation (user_id, before) VALUES ('${visitor.user}', 'infinity')`,
    );
    await tab.is('stopped');
    expect((await tab.probe()).authenticationErrors).toHaveLength(1);
    await visitor.leave();
  });
});
