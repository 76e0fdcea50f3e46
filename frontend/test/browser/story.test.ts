/** The five tests of the user story, on React 19 and 18, over both transports. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from './support/wait.js';
import { TRANSPORTS, World } from './support/world.js';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.clear());
afterAll(() => world.stop());

const set = (['react19', 'react18'] as const).flatMap((page) =>
  TRANSPORTS.map((transport) => ({ page, transport })),
);

describe.each(set)('$page over $transport', (options) => {
  test('connects with the authorisation it was given', async () => {
    const visitor = await world.visitor();
    await world.isQuiet();
    const tab = await visitor.open(options);
    await tab.isReady();
    expect(await world.gateway.streams()).toBe(1);
    expect((await tab.probe()).authenticationErrors).toEqual([]);
    await visitor.leave();
    await eventually('the stream gone', async () => (await world.gateway.streams()) === 0);
  });

  test('shows a message that a DBA types', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open(options);
    await tab.isReady();
    await world.postgres.psql(
      `INSERT INTO notifications (user_id, type, title, message)
       VALUES ('${visitor.user}', 'success', 'Export ready', 'by psql')`,
    );
    await tab.shows(1);
    expect(await tab.arrived()).toEqual(['Export ready']);
    expect((await tab.probe()).toasts).toEqual(['success: Export ready']);
    await tab.page.getByText('by psql').waitFor();
    await visitor.leave();
  });

  test('reconnects with exponential backoff and has missed nothing', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open(options);
    await tab.isReady();
    await world.postgres.insert(visitor.user, 'before');
    await tab.shows(1);
    await world.gateway.kill();
    await eventually('three failed attempts', async () => (await tab.state()).failures >= 3);
    await world.postgres.insert(visitor.user, 'meanwhile 1', 'meanwhile 2');
    await world.gateway.run();
    await tab.is('open');
    await tab.shows(3);
    expect((await tab.arrived()).sort()).toEqual(['before', 'meanwhile 1', 'meanwhile 2']);
    const { statuses } = await tab.probe();
    const waits = statuses
      .map(({ status, at }, index) => ({ status, lasted: (statuses[index + 1]?.at ?? at) - at }))
      .filter(({ status }) => status === 'waiting')
      .map(({ lasted }) => lasted);
    console.log(`${options.page} over ${options.transport}: waited ${waits.join(', ')} ms`);
    // Jitter takes at most half; a busy machine only adds.
    waits.slice(0, 3).forEach((wait, index) => {
      expect(wait).toBeGreaterThanOrEqual(2 ** index * 500 - 10);
    });
    await visitor.leave();
  });

  test('keeps the unread count of the whole state', async () => {
    const visitor = await world.visitor();
    await world.postgres.insert(visitor.user, 'there before', 'there before as well');
    const tab = await visitor.open(options);
    await tab.isReady();
    await tab.shows(2);
    await world.postgres.insert(visitor.user, 'live');
    await tab.shows(3);
    const count = tab.page.getByTestId('count');
    await eventually('3', async () => (await count.textContent()) === '3');
    await tab.page.getByRole('button', { name: 'Notifications, 3 unread' }).click();
    await tab.page.getByRole('button', { name: /^info live unread/ }).click();
    await tab.shows(2);
    await eventually(
      'the row read',
      async () => (await world.postgres.unreadCount(visitor.user)) === 2,
    );
    // An entry that was chosen has closed the panel.
    await tab.page.getByRole('button', { name: 'Notifications, 2 unread' }).click();
    await tab.page.getByRole('button', { name: 'Mark all as read' }).click();
    await tab.shows(0);
    await eventually(
      'all read',
      async () => (await world.postgres.unreadCount(visitor.user)) === 0,
    );
    // Not undone by the poll that follows.
    await tab.page.evaluate(() => window.probe.client?.refresh());
    await tab.shows(0);
    await visitor.leave();
  });

  test('closes everything on unmount, and opens it again', async () => {
    const visitor = await world.visitor();
    await world.isQuiet();
    const tab = await visitor.open(options);
    await tab.isReady();
    expect(await world.gateway.streams()).toBe(1);
    await tab.page.evaluate(() => window.probe.setMounted?.(false));
    await eventually('no stream', async () => (await world.gateway.streams()) === 0);
    const requests = world.app.requests.length;
    await world.postgres.insert(visitor.user, 'unheard');
    await tab.page.waitForTimeout(1_500);
    expect(await tab.arrived()).toEqual([]);
    expect(world.app.requests).toHaveLength(requests);
    await tab.page.evaluate(() => window.probe.setMounted?.(true));
    await tab.isReady();
    await tab.shows(1);
    expect(await world.gateway.streams()).toBe(1);
    await visitor.leave();
  });
});
