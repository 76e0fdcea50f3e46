/** What the list behind the bell can do, and what happens once in a browser. */
import { AxeBuilder } from '@axe-core/playwright';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from './support/wait.js';
import { type Tab, type Visitor, World } from './support/world.js';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.clear());
afterAll(() => world.stop());

const entry = (tab: Tab, title: string) => tab.page.locator('.ng-bell__entry', { hasText: title });

async function opened(visitor: Visitor): Promise<Tab> {
  const tab = await visitor.open({ page: 'react19', api: 'full' });
  await tab.isReady();
  await tab.page.getByRole('button', { name: /^Notifications/ }).click();
  await tab.page.getByRole('dialog').waitFor();
  return tab;
}

async function states(user: string): Promise<Record<string, string>> {
  const { rows } = await world.postgres.pool.query<{ title: string; status: string }>(
    'SELECT title, status FROM notifications WHERE user_id = $1',
    [user],
  );
  return Object.fromEntries(rows.map(({ title, status }) => [title, status]));
}

describe('an entry', () => {
  test('is marked, archived and deleted, in the table and in the other tab', async () => {
    const visitor = await world.visitor();
    const other = await visitor.open({ page: 'react19', api: 'full' });
    const titles = ['one', 'two', 'three', 'four'];
    for (const title of titles) await world.postgres.insert(visitor.user, title);
    await other.shows(4);
    const tab = await opened(visitor);
    await tab.shows(4);
    const act = async (title: string, name: string): Promise<void> => {
      await entry(tab, title).hover();
      await entry(tab, title).getByRole('button', { name, exact: true }).click();
    };
    await act('one', 'Mark as read');
    await other.shows(3);
    await act('one', 'Mark as unread');
    await other.shows(4);
    await act('two', 'Archive');
    await act('three', 'Delete');
    await other.shows(2);
    expect(await entry(tab, 'two').count()).toBe(0);
    await eventually('the table', async () => {
      const { three, ...rest } = await states(visitor.user);
      return three === undefined && JSON.stringify(rest).includes('"two":"archived"');
    });
    expect(await states(visitor.user)).toEqual({ one: 'unread', two: 'archived', four: 'unread' });
    await eventually('two rows in the other tab', async () => {
      const { notifications } = await other.state();
      return notifications.map(({ title }) => title).join() === 'four,one';
    });
    await visitor.leave();
  });

  test('that goes away hands the focus to its neighbour, the last one to the list', async () => {
    const visitor = await world.visitor();
    for (const title of ['one', 'two']) await world.postgres.insert(visitor.user, title);
    const tab = await opened(visitor);
    await tab.shows(2);
    const focused = (): Promise<string | undefined> =>
      tab.page.evaluate(() => document.activeElement?.className);
    await tab.page.keyboard.press('ArrowDown');
    for (const left of ['one', '']) {
      // Along the actions, to the last of them.
      for (let n = 0; n < 3; n += 1) await tab.page.keyboard.press('Tab');
      await tab.page.keyboard.press('Enter');
      await eventually('one less', async () => {
        const { notifications } = await tab.state();
        return notifications.map(({ title }) => title).join() === left;
      });
      expect(await focused()).toBe(left === '' ? 'ng-list' : 'ng-bell__item');
    }
    expect(await tab.page.getByRole('dialog').isVisible()).toBe(true);
    await visitor.leave();
  });

  test('holds what the app draws, whose links and buttons work', async () => {
    const visitor = await world.visitor();
    await world.postgres.insert(visitor.user, 'one');
    const tab = await opened(visitor);
    await tab.page.evaluate(() => {
      window.probe.draw?.();
    });
    await tab.page.getByRole('button', { name: 'inner', exact: true }).click();
    await tab.page.getByRole('button', { name: 'own action', exact: true }).click();
    await tab.page.getByText('settings').click();
    expect(await tab.page.evaluate(() => window.probe.told)).toEqual([
      'inner of one',
      'own action of one',
      'settings',
    ]);
    expect(await tab.page.locator('button button, a button, button a').count()).toBe(0);
    await tab.shows(1);
    await tab.page.getByText('drawn: one').click({ force: true });
    await tab.shows(0);
    await visitor.leave();
  });

  test('shows the whole of a long message where it is asked to', async () => {
    const visitor = await world.visitor();
    await world.postgres.pool.query(
      `INSERT INTO notifications (user_id, title, message)
       VALUES ($1, 'long', repeat('a long message ', 40)), ($1, 'short', 'a short one')`,
      [visitor.user],
    );
    const tab = await opened(visitor);
    await tab.shows(2);
    expect(await entry(tab, 'short').getByRole('button', { name: 'Show more' }).count()).toBe(0);
    const text = entry(tab, 'long').locator('.ng-bell__message');
    const height = async (): Promise<number> => (await text.boundingBox())?.height ?? 0;
    const before = await height();
    await entry(tab, 'long').getByRole('button', { name: 'Show more' }).click();
    expect(await height()).toBeGreaterThan(before * 2);
    await entry(tab, 'long').getByRole('button', { name: 'Show less' }).click();
    expect(await height()).toBe(before);
    await tab.shows(2);
    await visitor.leave();
  });
});

describe('the list', () => {
  test('goes back as far as there is something', async () => {
    const visitor = await world.visitor();
    for (let n = 1; n <= 45; n += 1) await world.postgres.insert(visitor.user, `row ${n}`);
    const tab = await opened(visitor);
    const entries = tab.page.locator('.ng-bell__entry');
    const older = tab.page.getByRole('button', { name: 'Show older' });
    await eventually('twenty', async () => (await entries.count()) === 20);
    await older.click();
    await eventually('forty', async () => (await entries.count()) === 40);
    await older.click();
    await eventually('all', async () => (await entries.count()) === 45);
    expect(await older.count()).toBe(0);
    expect(await entries.last().textContent()).toContain('row 1');
    await visitor.leave();
  });

  test('that is scrolled stays where it is, and says what came above', async () => {
    const visitor = await world.visitor();
    for (let n = 1; n <= 20; n += 1) await world.postgres.insert(visitor.user, `row ${n}`);
    const tab = await opened(visitor);
    await tab.shows(20);
    const list = tab.page.locator('.ng-bell__list');
    await list.evaluate((element) => {
      element.scrollTop = 300;
    });
    for (const n of [21, 22]) await world.postgres.insert(visitor.user, `row ${n}`);
    const pill = tab.page.getByRole('button', { name: '2 new' });
    await pill.click();
    expect(await list.evaluate(({ scrollTop }) => scrollTop)).toBe(0);
    await pill.waitFor({ state: 'detached' });
    const focused = () => tab.page.evaluate(() => document.activeElement?.textContent);
    expect(await focused()).toBe('row 22');
    await visitor.leave();
  });

  test('that was seen takes the unseen from the badge, in every tab, and leaves them unread', async () => {
    const visitor = await world.visitor();
    await world.postgres.insert(visitor.user, 'one', 'two');
    const tabs = [
      await visitor.open({ page: 'react19', api: 'full' }),
      await visitor.open({ page: 'react19', api: 'full' }),
    ] as const;
    for (const tab of tabs) {
      await tab.isReady();
      await tab.page.evaluate(() => window.probe.setBell?.({ count: 'unseen' }));
    }
    const badge = (tab: Tab, name: string) => tab.page.getByRole('button', { name, exact: true });
    await badge(tabs[0], 'Notifications, 2 new').click();
    await badge(tabs[0], 'Notifications').waitFor();
    await badge(tabs[1], 'Notifications').waitFor();
    expect((await tabs[1].state()).unreadCount).toBe(2);
    await tabs[0].page.keyboard.press('Escape');
    await world.postgres.insert(visitor.user, 'three');
    for (const tab of tabs) await badge(tab, 'Notifications, 1 new').waitFor();
    await visitor.leave();
  });
});

describe('once in a browser, not once in a tab', () => {
  test('toasts are shown and sounds are made, and the live region says only the rest', async () => {
    const visitor = await world.visitor();
    const tabs = [
      await visitor.open({ page: 'react19' }),
      await visitor.open({ page: 'react19' }),
      await visitor.open({ page: 'react19' }),
    ];
    for (const tab of tabs) await tab.isReady();
    await world.postgres.pool.query(
      `INSERT INTO notifications (user_id, type, title, message)
       SELECT $1, CASE n WHEN 1 THEN 'info' ELSE 'success' END, 'row ' || n, ''
       FROM generate_series(1, 9) n`,
      [visitor.user],
    );
    for (const tab of tabs) await tab.shows(9);
    const probes = await Promise.all(tabs.map((tab) => tab.probe()));
    expect(probes.map(({ arrived }) => arrived.length)).toEqual([9, 9, 9]);
    expect(probes.flatMap(({ rung }) => rung)).toHaveLength(9);
    const toasts = probes.flatMap((probe) => probe.toasts);
    expect(toasts.slice(0, 3)).toEqual(['success: row 2', 'success: row 3', 'success: row 4']);
    expect(toasts.at(-1)).toBe('success: 5 more notifications');
    const leading = tabs[probes.findIndex(({ rung }) => rung.length > 0)];
    const region = leading?.page.locator('.ng-bell').getByRole('status');
    expect((await region?.textContent())?.trim()).toBe('row 1. 1 unread');
    await visitor.leave();
  });

  test('the tab that is looked at does it', async () => {
    const visitor = await world.visitor();
    const first = await visitor.open({ page: 'react19' });
    const second = await visitor.open({ page: 'react19' });
    for (const tab of [first, second]) await tab.isReady();
    await second.look(true);
    await first.look(false);
    await eventually('the lead', async () => (await second.state()).isLeading);
    await second.is('open');
    await world.postgres.insert(visitor.user, 'one');
    for (const tab of [first, second]) await tab.shows(1);
    expect((await first.probe()).rung).toEqual([]);
    expect((await second.probe()).rung).toEqual(['one']);
    await visitor.leave();
  });
});

describe('for those who cannot see or point', () => {
  const looks = [
    ['light', { colorScheme: 'light', forcedColors: 'none' }],
    ['dark', { colorScheme: 'dark', forcedColors: 'none' }],
    ['forced colours', { colorScheme: 'light', forcedColors: 'active' }],
  ] as const;

  async function violations(page: Page): Promise<string[]> {
    const { violations: found } = await new AxeBuilder({ page }).include('.ng-bell').analyze();
    return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
  }

  test.each(looks)('axe finds nothing: %s', async (_, media) => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ page: 'react19', api: 'full' });
    await tab.isReady();
    await tab.page.emulateMedia({ ...media, reducedMotion: 'reduce' });
    await tab.page.addStyleTag({ content: ':root { color-scheme: light dark }' });
    await tab.page.getByRole('button', { name: /^Notifications/ }).click();
    await tab.page.getByText('Nothing new').waitFor();
    expect(await violations(tab.page)).toEqual([]);
    for (const type of ['info', 'success', 'warning', 'error']) {
      await world.postgres.pool.query(
        `INSERT INTO notifications (user_id, type, title, message, status)
         VALUES ($1, $2, $2, repeat('a message ', 30), 'read'), ($1, $2, 'new ' || $2, '', 'unread')`,
        [visitor.user, type],
      );
    }
    await tab.shows(4);
    await tab.page.evaluate(() =>
      window.probe.setBell?.({
        getHref: ({ status }) => (status === 'read' ? '#' : null),
        footer: 'All',
      }),
    );
    await tab.page.locator('.ng-bell__entry').first().hover();
    expect(await violations(tab.page)).toEqual([]);
    await visitor.leave();
  });
});

test('a developer who forgot the style sheet is told', async () => {
  const visitor = await world.visitor();
  const tab = await visitor.open({ page: 'react19' });
  await tab.isReady();
  await tab.page.evaluate(() => {
    for (const sheet of document.querySelectorAll('link')) sheet.remove();
  });
  await tab.page.getByRole('button', { name: /^Notifications/ }).click();
  await eventually('a warning', () => Promise.resolve(visitor.warnings.length > 0));
  expect(visitor.warnings).toEqual([
    "notify-gateway: the style sheet is missing: import '@notify-gateway/client/style.css'",
  ]);
  await visitor.leave();
});
