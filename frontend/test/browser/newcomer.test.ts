/** The package as it is published, in the pages of people who have just found it: a row rings. */
import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { pack } from '../../scripts/tarball.js';
import { NoRegistryError } from '../consumers/consumer.js';
import { buildNewcomer } from '../consumers/newcomer.js';
import { Site } from './support/site.js';
import { World } from './support/world.js';

const DIST = new URL('../../dist/', import.meta.url);

let world: World;
let packed: Awaited<ReturnType<typeof pack>>;
beforeAll(async () => {
  packed = await pack();
  world = await World.start();
});
afterEach(() => world.clear());
afterAll(async () => {
  await world.stop();
  rmSync(packed.directory, { recursive: true });
});

test("a new Vite app with the README's first example in it", async ({ skip }) => {
  const pages = await builtPages(skip);
  await using site = await Site.ofFiles(world, async (path) =>
    readFile(join(pages, path === '/' ? 'index.html' : path)),
  );
  const { user, context } = await world.visitor();
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.goto(`${site.origin}/?user=${user}`);
  await page.getByRole('button', { name: 'Notifications', exact: true }).waitFor();

  await world.postgres.insert(user, 'the first');
  const bell = page.getByRole('button', { name: 'Notifications, 1 unread' });
  await bell.waitFor();
  expect((await bell.textContent())?.trim()).toBe('1');

  await bell.click();
  await page.getByRole('button', { name: /the first/ }).click();
  await page.waitForURL(/#\/notifications\//);
  expect(complaints).toEqual([]);
});

test('a page without a bundler, and the one file', async () => {
  const html = `<!doctype html><meta charset="utf-8"><output id="badge"></output>
<script type="module">
import { createNotificationClient } from '/notify-gateway.min.js';
const user = new URLSearchParams(location.search).get('user');
const client = createNotificationClient({
  url: '/api/notifications/stream',
  token: async () => (await (await fetch('/login?user=' + user, { method: 'POST' })).json()).token,
});
client.subscribe(() => {
  badge.textContent = client.getState().status + ' ' + client.getState().unreadCount;
});
client.start();
</script>`;
  await using site = await Site.ofFiles(world, async (path) =>
    path === '/' ? Buffer.from(html) : readFile(new URL(`.${path}`, DIST)),
  );
  const { user, context } = await world.visitor();
  const page = await context.newPage();
  await page.goto(`${site.origin}/?user=${user}`);
  await page.getByText('open 0').waitFor();
  await world.postgres.insert(user, 'the first');
  await page.getByText('open 1').waitFor();
});

/** Skipped where nothing can be installed, loudly; or failing, where that must not be. */
async function builtPages(skip: (note: string) => never): Promise<string> {
  try {
    return await buildNewcomer(packed);
  } catch (error) {
    if (!(error instanceof NoRegistryError) || process.env['CI_REQUIRE_BROWSER']) throw error;
    console.error(`SKIPPED: THE NEW APP WAS NOT TESTED\n${error.message}`);
    return skip("npm's registry is not there");
  }
}
