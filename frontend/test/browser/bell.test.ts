/** What a person sees, hears and types. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { eventually, median } from './support/wait.js';
import { TRANSPORTS, World } from './support/world.js';

function fail(): never {
  throw new Error('it has no box');
}

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.clear());
afterAll(() => world.stop());

describe.each(TRANSPORTS)('over %s', (transport) => {
  test('the badge is right within a second of an INSERT in psql', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ page: 'react19', transport });
    await tab.isReady();
    const taken: number[] = [];
    for (let n = 1; n <= 5; n += 1) {
      // Between the INSERT's return and the number on the page.
      const seen = tab.page.getByRole('button', { name: `Notifications, ${n} unread` }).waitFor();
      await world.postgres.psql(
        `INSERT INTO notifications (user_id, title, message) VALUES ('${visitor.user}', '${n}', '')`,
      );
      const inserted = Date.now();
      await seen;
      taken.push(Date.now() - inserted);
      expect(await tab.page.locator('.ng-bell__badge').textContent()).toBe(String(n));
    }
    expect(median(taken)).toBeLessThan(1_000);
    console.log(`badge over ${transport}: ${taken.join(', ')} ms after the INSERT`);
    await visitor.leave();
  });

  test('success and error are toasts, the others are not', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ page: 'react19', transport });
    await tab.isReady();
    for (const type of ['info', 'success', 'warning', 'error']) {
      await world.postgres.pool.query(
        `INSERT INTO notifications (user_id, type, title, message) VALUES ($1, $2, $2, 'told')`,
        [visitor.user, type],
      );
    }
    await tab.shows(4);
    expect((await tab.probe()).toasts).toEqual(['success: success', 'error: error']);
    await tab.page.locator('[data-sonner-toast]', { hasText: 'error' }).waitFor();
    await visitor.leave();
  });
});

describe('the bell', () => {
  test('shows the twenty newest and counts them all', async () => {
    const visitor = await world.visitor();
    for (let n = 1; n <= 25; n += 1) await world.postgres.insert(visitor.user, `row ${n}`);
    const tab = await visitor.open({ page: 'react19' });
    await tab.shows(25);
    await tab.page.getByRole('button', { name: 'Notifications, 25 unread' }).click();
    const items = tab.page.locator('.ng-bell__entry');
    expect(await items.count()).toBe(20);
    await world.postgres.insert(visitor.user, 'row 26');
    await items.first().getByText('row 26').waitFor();
    expect(await items.count()).toBe(20);
    await tab.shows(26);
    await visitor.leave();
  });

  test('is used by keyboard alone', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ page: 'react19' });
    await tab.isReady();
    for (const title of ['one', 'two', 'three']) await world.postgres.insert(visitor.user, title);
    await tab.shows(3);
    const focused = () => tab.page.evaluate(() => document.activeElement?.textContent);
    const { keyboard } = tab.page;
    const bell = tab.page.getByRole('button', { name: /^Notifications/ });
    const panel = tab.page.getByRole('dialog', { name: 'Notifications' });

    await bell.focus();
    await keyboard.press('Enter');
    await panel.waitFor();
    expect(await bell.getAttribute('aria-expanded')).toBe('true');
    await keyboard.press('ArrowDown');
    expect(await focused()).toBe('three');
    await keyboard.press('ArrowDown');
    expect(await focused()).toBe('two');
    await keyboard.press('End');
    expect(await focused()).toBe('one');
    await keyboard.press('Home');
    await keyboard.press('ArrowUp');
    expect(await focused()).toBe('three');
    await keyboard.press('Enter');
    await tab.shows(2);
    await eventually(
      'the row read',
      async () => (await world.postgres.unreadCount(visitor.user)) === 2,
    );
    // Choosing closes it, as Escape does; the focus goes back to the bell.
    const isBack = () => bell.evaluate((element) => element === document.activeElement);
    await panel.waitFor({ state: 'detached' });
    expect(await isBack()).toBe(true);
    await keyboard.press('Enter');
    await panel.waitFor();
    await keyboard.press('Escape');
    await panel.waitFor({ state: 'detached' });
    expect(await isBack()).toBe(true);

    await keyboard.press('Enter');
    await panel.waitFor();
    await tab.page.getByRole('button', { name: 'elsewhere' }).focus();
    await panel.waitFor({ state: 'detached' });
    await visitor.leave();
  });

  test('is closed by a click elsewhere, and marking all keeps the focus inside', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ page: 'react19' });
    await tab.isReady();
    await world.postgres.insert(visitor.user, 'one');
    await tab.shows(1);
    await tab.page.getByRole('button', { name: /^Notifications/ }).click();
    const panel = tab.page.getByRole('dialog');
    await tab.page.getByRole('button', { name: 'Mark all as read' }).click();
    await tab.shows(0);
    expect(await panel.evaluate((element) => element.contains(document.activeElement))).toBe(true);
    await tab.page.mouse.click(5, 500);
    await panel.waitFor({ state: 'detached' });
    await visitor.leave();
  });

  test('leads where the app says: links, which open in a new tab as well', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ page: 'react19' });
    await tab.isReady();
    await world.postgres.insert(visitor.user, 'one', 'two');
    await tab.shows(2);
    await tab.page.evaluate(() => {
      window.probe.setBell?.({
        getHref: ({ title }) => (title === 'two' ? '/page/elsewhere' : null),
        onSelect: ({ title }, event) => {
          event.preventDefault();
          window.probe.told.push(title);
        },
      });
    });
    const bell = tab.page.getByRole('button', { name: /^Notifications/ });
    await bell.click();
    const panel = tab.page.getByRole('dialog');
    expect(await panel.getByRole('button', { name: 'one' }).count()).toBe(1);
    const link = panel.getByRole('link', { name: 'two' });
    const opened = visitor.context.waitForEvent('page');
    await link.click({ modifiers: ['Control'] });
    expect(new URL((await opened).url()).pathname).toBe('/page/elsewhere');
    await (await opened).close();
    // What was opened beside is read; this page stays where it is.
    await tab.shows(1);
    expect(await panel.isVisible()).toBe(true);
    await link.click();
    await panel.waitFor({ state: 'detached' });
    expect(await tab.page.evaluate(() => window.probe.told)).toEqual(['two']);
    await visitor.leave();
  });

  test('is opened and closed by the page, where the page wants to', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ page: 'react19' });
    await tab.isReady();
    const set = (open: boolean): Promise<void> =>
      tab.page.evaluate((is) => {
        window.probe.setBell?.({
          open: is,
          onOpenChange: (wants) => window.probe.told.push(`open: ${wants}`),
        });
      }, open);
    await set(true);
    const panel = tab.page.getByRole('dialog');
    await panel.waitFor();
    await tab.page.keyboard.press('Escape');
    await tab.page.mouse.click(5, 500);
    expect(await panel.isVisible()).toBe(true);
    expect(await tab.page.evaluate(() => window.probe.told)).toEqual([
      'open: false',
      'open: false',
    ]);
    await set(false);
    await panel.waitFor({ state: 'detached' });
    await visitor.leave();
  });

  test.each([
    ['a phone', { width: 360, height: 640 }, 'ltr', 'left: 4px; top: 4px'],
    ['a sidebar', { width: 900, height: 500 }, 'ltr', 'left: 0; top: 200px'],
    ['the bottom', { width: 900, height: 700 }, 'ltr', 'right: 4px; bottom: 4px'],
    ['right to left', { width: 900, height: 700 }, 'rtl', 'left: 0; top: 0'],
  ] as const)('stays in the window, whatever it is in: %s', async (_, size, dir, at) => {
    const visitor = await world.visitor();
    for (let n = 1; n <= 20; n += 1) await world.postgres.insert(visitor.user, `row ${n}`);
    const tab = await visitor.open({ page: 'react19' });
    await tab.shows(20);
    await tab.page.setViewportSize(size);
    await tab.page.evaluate((direction) => {
      document.dir = direction;
    }, dir);
    // A corner of the page that clips what is in it, and lies under everything.
    await tab.page.addStyleTag({
      content: `.ng-bell { position: fixed; ${at}; overflow: hidden; z-index: -1; transform: scale(1) }`,
    });
    await tab.page.evaluate(() => {
      document.querySelector<HTMLElement>('.ng-bell__button')?.click();
    });
    const panel = tab.page.getByRole('dialog');
    await panel.waitFor();
    const { x, y, width, height } = (await panel.boundingBox()) ?? fail();
    expect(Math.min(x, y)).toBeGreaterThanOrEqual(0);
    expect(x + width).toBeLessThanOrEqual(size.width);
    expect(y + height).toBeLessThanOrEqual(size.height);
    expect(height).toBeGreaterThan(150);
    if (size.width < 480) expect([x, width, y + height]).toEqual([0, size.width, size.height]);
    // Nothing lies over it.
    const isOnTop = await panel.evaluate((element) => {
      const { left, top } = element.getBoundingClientRect();
      return element.contains(document.elementFromPoint(left + 20, top + 20));
    });
    expect(isOnTop).toBe(true);
    // It scrolls inside, and the last entry can be reached.
    await panel.getByText('row 1', { exact: true }).scrollIntoViewIfNeeded();
    await panel.getByText('row 1', { exact: true }).click();
    await panel.waitFor({ state: 'detached' });
    await tab.shows(19);
    await visitor.leave();
  });

  test('says that it loads, and that the list cannot be had, and never that nothing is new', async () => {
    const visitor = await world.visitor();
    let isDown = true;
    await visitor.context.route(/\/api\/notifications(\/unread-count)?$/, async (route) => {
      if (!isDown) return route.continue();
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      return route.fulfill({ status: 503, body: 'no' });
    });
    const tab = await visitor.open({ page: 'react19' });
    await tab.page.getByRole('button', { name: /^Notifications/ }).click();
    const panel = tab.page.getByRole('dialog');
    await panel.getByText('Loading').waitFor();
    const alert = panel.getByRole('alert');
    await alert.waitFor();
    expect(await panel.getByText('Nothing new').count()).toBe(0);
    isDown = false;
    await alert.getByRole('button', { name: 'Try again' }).click();
    await panel.getByText('Nothing new').waitFor();
    expect(await alert.count()).toBe(0);
    await visitor.leave();
  });

  test('says what has come, in a live region', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ page: 'react19' });
    await tab.isReady();
    const region = tab.page.locator('.ng-bell').getByRole('status');
    expect(await region.textContent()).toBe('');
    await world.postgres.insert(visitor.user, 'Export ready');
    await eventually(
      'the words',
      async () => (await region.textContent())?.trim() === 'Export ready. 1 unread',
    );
    // The same words again are another element: else nobody would hear them.
    await world.postgres.psql(`DELETE FROM notifications WHERE user_id = '${visitor.user}'`);
    await tab.shows(0);
    await world.postgres.insert(visitor.user, 'Export ready');
    await eventually('another', async () => (await region.locator('span').count()) === 2);
    await visitor.leave();
  });

  test('moves nothing for those who want nothing moved', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ page: 'react19' });
    await tab.isReady();
    await world.postgres.insert(visitor.user, 'one');
    const badge = tab.page.locator('.ng-bell__badge');
    await badge.waitFor();
    const animation = () => badge.evaluate((element) => getComputedStyle(element).animationName);
    await tab.page.emulateMedia({ reducedMotion: 'no-preference' });
    expect(await animation()).toBe('ng-bell-appear');
    await tab.page.emulateMedia({ reducedMotion: 'reduce' });
    expect(await animation()).toBe('none');
    await visitor.leave();
  });

  test("takes the page's colours and the page's rules", async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ page: 'react19' });
    await tab.isReady();
    await world.postgres.insert(visitor.user, 'one');
    await tab.page.addStyleTag({
      content: '.ng-bell { --ng-accent: rgb(1, 2, 3) } .ng-bell__badge { font-size: 20px }',
    });
    const badge = tab.page.locator('.ng-bell__badge');
    await badge.waitFor();
    // Above it as well.
    await tab.page.addStyleTag({ content: 'main { --ng-on-accent: rgb(4, 5, 6) }' });
    const style = await badge.evaluate((element) => {
      const { backgroundColor, color, fontSize } = getComputedStyle(element);
      return { backgroundColor, color, fontSize };
    });
    expect(style).toEqual({
      backgroundColor: 'rgb(1, 2, 3)',
      color: 'rgb(4, 5, 6)',
      fontSize: '20px',
    });
    await visitor.leave();
  });

  test('is dark where the page is, not where only the visitor would like it', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ page: 'react19' });
    await tab.isReady();
    await tab.page.emulateMedia({ colorScheme: 'dark' });
    await tab.page.getByRole('button', { name: /^Notifications/ }).click();
    const panel = tab.page.getByRole('dialog');
    const surface = () => panel.evaluate((element) => getComputedStyle(element).backgroundColor);
    expect(await surface()).toBe('rgb(255, 255, 255)');
    await tab.page.addStyleTag({ content: ':root { color-scheme: light dark }' });
    expect(await surface()).toBe('rgb(22, 23, 27)');
    await tab.page.emulateMedia({ colorScheme: 'light' });
    expect(await surface()).toBe('rgb(255, 255, 255)');
    await visitor.leave();
  });
});
