/** One user's notifications are never shown to another, in any tab, whoever logs in. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { eventually, sleep } from './support/wait.js';
import { type Tab, World } from './support/world.js';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.clear());
afterAll(() => world.stop());

async function success(user: string, title: string): Promise<void> {
  await world.postgres.pool.query(
    `INSERT INTO notifications (user_id, type, title, message) VALUES ($1, 'success', $2, $2)`,
    [user, title],
  );
}

/** All that the page says, to eyes and to screen readers. */
function words({ page }: Tab): Promise<string> {
  return page.evaluate(() => document.body.textContent);
}

test('the next user sees and hears nothing of the former one', async () => {
  const [ada, grace] = [await world.visitor(), await world.visitor()];
  await success(grace.user, 'old of grace');
  await success(grace.user, 'older of grace');
  // What is no older than two seconds may come with a new stream as well.
  await sleep(2_500);
  const tab = await ada.open({ page: 'react19' });
  await tab.isReady();
  await success(ada.user, 'secret of ada');
  await tab.shows(1);
  await tab.page.getByRole('button', { name: 'Notifications, 1 unread' }).click();
  await tab.page.locator('[data-sonner-toast]', { hasText: 'secret of ada' }).waitFor();
  // What a toast says the live region does not.
  const region = tab.page.locator('.ng-bell').getByRole('status');
  expect(await region.textContent()).toBe('');
  await world.postgres.insert(ada.user, 'another of ada');
  await tab.shows(2);
  await eventually('the words', async () =>
    Boolean((await region.textContent())?.includes('another of ada')),
  );

  await tab.become(grace.user);
  await tab.shows(2);
  await tab.isReady();
  expect(await tab.page.getByRole('dialog').count()).toBe(0);
  await eventually('no word of ada', async () => !(await words(tab)).includes('of ada'));
  // Another count must not have the former user's title read out again.
  expect(await region.textContent()).toBe('');
  // What was there before the login is no news.
  const titles = (await tab.probe()).arrived.map(({ title }) => title);
  expect(titles).toEqual(['secret of ada', 'another of ada']);
  await world.postgres.insert(grace.user, 'new of grace');
  await tab.shows(3);
  await eventually('the words', async () =>
    Boolean((await region.textContent())?.includes('new of grace')),
  );
  await ada.leave();
  await grace.leave();
});

test('while nobody is logged in nothing is asked for', async () => {
  const ada = await world.visitor();
  await world.isQuiet();
  const tab = await ada.open({ page: 'react19' });
  await tab.isReady();
  await world.postgres.insert(ada.user, 'a row');
  await tab.shows(1);
  await tab.become(null);
  await eventually('no stream', async () => (await world.gateway.streams()) === 0);
  const before = world.app.requests.length;
  await tab.look(false);
  await tab.look(true);
  await sleep(1_000);
  expect(world.app.requests.length).toBe(before);
  expect(await tab.state()).toMatchObject({
    status: 'stopped',
    reason: 'disabled',
    unreadCount: 0,
  });
  expect(await tab.probe()).toMatchObject({ authenticationErrors: [], errors: [] });
  await tab.become(ada.user);
  await tab.isReady();
  await tab.shows(1);
  await ada.leave();
});

test.each(['core', 'react19'] as const)(
  'a login in another tab, by the cookie that this one streams with, clears this one: %s',
  async (page) => {
    const [ada, grace] = [await world.visitor(), await world.visitor()];
    const tabs = [
      await ada.open({ page, transport: 'event-source' }),
      await ada.open({ page, transport: 'event-source' }),
    ];
    for (const tab of tabs) await tab.isReady();
    await world.postgres.insert(ada.user, 'secret of ada');
    for (const tab of tabs) await tab.shows(1);
    const other = await ada.context.newPage();
    await other.goto(`${world.app.origin}/page/elsewhere`);
    await other.evaluate((user) => fetch(`/login?user=${user}`, { method: 'POST' }), grace.user);
    // The network was away: the stream is asked for anew.
    for (const tab of tabs)
      await tab.page.evaluate(() => window.dispatchEvent(new Event('online')));
    for (const tab of tabs) {
      await eventually('a user who changed', async () => {
        const { reason, notifications } = await tab.state();
        return reason === 'user_changed' && notifications.length === 0;
      });
      await world.postgres.insert(grace.user, 'secret of grace');
      await sleep(300);
      expect((await tab.probe()).arrived.map(({ title }) => title)).toEqual(['secret of ada']);
      expect(await words(tab)).not.toContain('secret of');
    }
    await ada.leave();
    await grace.leave();
  },
);

const seconds = Number(process.env['USERS_SECONDS'] ?? 15);
const RANDOM = { timeout: seconds * 1_000 + 60_000 };
test(
  'logins and logouts at random, in two tabs, while rows are committed for both',
  RANDOM,
  async () => {
    const seed = Number(process.env['USERS_SEED'] ?? Date.now() % 1e9);
    console.log(`USERS_SEED=${seed}`);
    let state = seed;
    const draw = (below: number): number => {
      // A linear congruential generator: the same seed, the same test.
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((state / 2_147_483_648) * below);
    };
    const [ada, grace] = [await world.visitor(), await world.visitor()];
    const users = [ada.user, grace.user];
    // Each title names its user; what names another one than the page's is a leak.
    await ada.context.addInitScript(() => {
      const leaks: string[] = [];
      let current = new URLSearchParams(location.search).get('user');
      const look = (what: string, text: string, user: string | null): void => {
        for (const [title, of] of text.matchAll(/row \d+ of ([0-9a-f-]{36})/g)) {
          // A channel's name has the user without hyphens.
          if (of?.replaceAll('-', '') !== user?.replaceAll('-', ''))
            leaks.push(`${what}: ${title} while it was ${user ?? 'nobody'}`);
        }
      };
      const post = Object.getOwnPropertyDescriptor(BroadcastChannel.prototype, 'postMessage');
      BroadcastChannel.prototype.postMessage = function (message: unknown) {
        const [, , user] = JSON.parse(this.name.slice(this.name.indexOf('['))) as string[];
        look('broadcast', JSON.stringify(message), user ?? null);
        (post?.value as typeof this.postMessage).call(this, message);
      };
      const check = (): void => {
        const shown = document.body.cloneNode(true) as HTMLElement;
        // Toasts take a moment to leave; they are looked at above.
        for (const toast of shown.querySelectorAll('[data-sonner-toast]')) toast.remove();
        look('page', shown.textContent, current);
        look('state', JSON.stringify(window.probe.client?.getState()), current);
      };
      Object.assign(window, { leaks, check });
      const watching = new MutationObserver(check);
      document.addEventListener('DOMContentLoaded', () => {
        watching.observe(document.body, { subtree: true, childList: true, characterData: true });
      });
      window.addEventListener('load', () => {
        window.probe.became = (user) => {
          current = user;
        };
      });
    });
    const tabs = [await ada.open({ page: 'react19' }), await ada.open({ page: 'react19' })];
    let rows = 0;
    let logins = 0;
    for (const end = Date.now() + seconds * 1_000; Date.now() < end;) {
      const tab = tabs[draw(tabs.length)];
      switch (draw(4)) {
        case 0: {
          logins += 1;
          const next = [...users, null][draw(3)] ?? null;
          await tab?.become(next);
          break;
        }
        case 1:
          await tab?.look(draw(2) === 0);
          break;
        default: {
          const user = users[draw(2)] ?? '';
          await success(user, `row ${++rows} of ${user}`);
        }
      }
      await sleep(draw(150));
    }
    for (const tab of tabs) {
      const leaks = await tab.page.evaluate(() => {
        const page = window as unknown as { check: () => void; leaks: string[] };
        page.check();
        return [...new Set(page.leaks)].slice(0, 5);
      });
      expect(leaks).toEqual([]);
    }
    console.log(`${logins} logins and logouts, ${rows} rows`);
    await ada.leave();
    await grace.leave();
  },
);
