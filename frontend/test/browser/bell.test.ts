/** What a person sees, hears and types. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { eventually, median } from './support/wait.js';
import { TRANSPORTS, World } from './support/world.js';

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
    const items = tab.page.getByRole('dialog').getByRole('listitem');
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
    const focused = () =>
      tab.page.evaluate(
        () => document.activeElement?.querySelector('.ng-bell__item-title')?.textContent,
      );
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
    await keyboard.press('Escape');
    await panel.waitFor({ state: 'detached' });
    expect(await bell.evaluate((element) => element === document.activeElement)).toBe(true);

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

  test('says what has come, in a live region', async () => {
    const visitor = await world.visitor();
    const tab = await visitor.open({ page: 'react19' });
    await tab.isReady();
    const region = tab.page.locator('.ng-bell').getByRole('status');
    expect(await region.textContent()).toBe('');
    await world.postgres.insert(visitor.user, 'Export ready');
    await eventually(
      'the words',
      async () => (await region.textContent()) === 'Export ready. 1 unread',
    );
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
    expect(await surface()).toBe('rgb(32, 33, 36)');
    await tab.page.emulateMedia({ colorScheme: 'light' });
    expect(await surface()).toBe('rgb(255, 255, 255)');
    await visitor.leave();
  });
});
