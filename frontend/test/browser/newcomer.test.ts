/** The package as it is published, in the pages of people who have just found it: a row rings. */
import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type Server, createServer, request as ask } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { pack } from '../../scripts/tarball.js';
import { NoRegistryError } from '../consumers/consumer.js';
import { buildNewcomer } from '../consumers/newcomer.js';
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
  await using site = await Site.start(world, async (path) =>
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
  await using site = await Site.start(world, async (path) =>
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

/** One origin, as a proxy makes it: its own files, the gateway's stream, the app for the rest. */
class Site {
  private constructor(readonly server: Server) {}

  static async start(
    { app, gateway }: World,
    file: (path: string) => Promise<Buffer>,
  ): Promise<Site> {
    const server = createServer((request, response) => {
      const { pathname } = new URL(request.url ?? '/', 'http://localhost');
      const isStream = pathname === '/api/notifications/stream';
      if (isStream || pathname.startsWith('/api/') || pathname === '/login') {
        const { hostname, port } = new URL(isStream ? gateway.streamUrl : app.origin);
        const { method, url: path, headers } = request;
        const onward = ask({ hostname, port, method, path, headers }, (answer) => {
          response.writeHead(answer.statusCode ?? 502, answer.headers);
          answer.pipe(response);
        });
        onward.on('error', () => response.destroy());
        response.on('close', () => onward.destroy());
        request.pipe(onward);
        return;
      }
      file(pathname).then(
        (body) => response.writeHead(200, { 'content-type': typeOf(pathname) }).end(body),
        () => response.writeHead(404).end(),
      );
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Site(server);
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

function typeOf(path: string): string {
  if (path.endsWith('.js')) return 'text/javascript';
  return path.endsWith('.css') ? 'text/css' : 'text/html';
}
