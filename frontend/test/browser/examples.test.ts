/** The recipes of examples/ with the package as it is published, and what their READMEs promise. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { pack } from '../../scripts/tarball.js';
import { NoRegistryError } from '../consumers/consumer.js';
import { buildExamples } from '../consumers/examples.js';
import { isFailedRequest } from './support/browser.js';
import { SECRET } from './support/gateway.js';
import { freePort } from './support/postgres.js';
import { Site } from './support/site.js';
import { eventually } from './support/wait.js';
import { World } from './support/world.js';

const NOT_BUILT = "npm's registry is not there";

let world: World;
let packed: Awaited<ReturnType<typeof pack>>;
/** Null where nothing can be installed. */
let built: Awaited<ReturnType<typeof buildExamples>> | null;
beforeAll(async () => {
  packed = await pack();
  world = await World.start();
  built = await buildAll();
  // Next.js alone takes a minute to build on a machine that is busy.
}, 300_000);
afterEach(() => world.clear());
afterAll(async () => {
  await world.stop();
  rmSync(packed.directory, { recursive: true });
});

describe.each(['tanstack-query', 'redux', 'plain-html', 'vue', 'svelte'])('%s', (name) => {
  test('a row counts, a read one does not, and the next user sees none', async ({ skip }) => {
    const { pages } = built ?? skip(NOT_BUILT);
    await using site = await Site.ofFiles(world, (path) =>
      readFile(join(pages, path.replace(/\/$/, '/index.html'))),
    );
    const { user, context, complaints } = await world.visitor();
    const next = randomUUID();
    await world.postgres.insert(next, "the next one's");
    const page = await context.newPage();
    listen(page, complaints);
    await page.goto(`${site.origin}/${name}/`);

    await logIn(page, user);
    await shows(page, 0);
    await eventually('a stream', async () => (await world.gateway.streams()) === 1);
    await world.postgres.insert(user, 'the first');
    await shows(page, 1);
    await page.getByRole('button', { name: 'the first' }).click();
    await shows(page, 0);
    await eventually(
      'a row that is read',
      async () => (await world.postgres.unreadCount(user)) === 0,
    );

    await world.postgres.insert(user, 'a secret');
    await shows(page, 1);
    await page.getByRole('button', { name: 'a secret' }).waitFor();
    await watch(page, next, ['the first', 'a secret', 'a late secret']);
    await logIn(page, next);
    await page.getByRole('button', { name: "the next one's" }).waitFor();
    await world.postgres.insert(user, 'a late secret');
    await world.postgres.insert(next, 'another');
    await shows(page, 2);
    expect(await leaked(page)).toEqual([]);

    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByText('Nobody is logged in').waitFor();
    await eventually('no stream', async () => (await world.gateway.streams()) === 0);
    expect(await page.getByRole('listitem').count()).toBe(0);
    expect(complaints).toEqual([]);
  });
});

test('nextjs: the server has rendered the number, and the stream begins there', async ({
  skip,
}) => {
  const { next } = built ?? skip(NOT_BUILT);
  await using server = await NextServer.start(next, world);
  await using site = await Site.before(world, server.origin);
  const { user, context, complaints } = await world.visitor();
  const other = randomUUID();
  const become = (name: string) => context.request.post(`${site.origin}/login?user=${name}`);
  await world.postgres.insert(user, 'the first');
  await world.postgres.insert(other, "the other one's", 'and another', 'and a third');

  await become(user);
  const html = await (await context.request.get(site.origin)).text();
  expect(html).toContain('Notifications, 1 unread');
  const page = await context.newPage();
  listen(page, complaints);
  const stream = page.waitForRequest(/\/stream/);
  await page.goto(site.origin);
  expect((await stream).url()).toContain('last_event_id=');
  await world.postgres.insert(user, 'the second');
  await page.getByRole('button', { name: 'Notifications, 2 unread' }).click();
  await page.getByRole('button', { name: /the second/ }).click();
  await eventually(
    'a row that is read',
    async () => (await world.postgres.unreadCount(user)) === 1,
  );

  // Another tab logs in, and the page hears of it when its stream is another.
  await become(other);
  const late = await context.request.get(`${site.origin}/api/notifications?user=${user}`);
  expect(late.status()).toBe(409);
  await watch(page, "the other one's", ['the first', 'the second']);
  await world.gateway.kill();
  await world.gateway.run();
  await page.getByRole('button', { name: 'Notifications, 3 unread' }).click();
  await page.getByRole('button', { name: /the other one's/ }).waitFor();
  expect(await leaked(page)).toEqual([]);
  expect(complaints).toEqual([]);
});

function listen(page: Page, complaints: string[]): void {
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    const text = message.text();
    if (message.type() === 'error' && !isFailedRequest(text)) complaints.push(text);
  });
}

async function logIn(page: Page, user: string): Promise<void> {
  await page.getByLabel('User').fill(user);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByText(`Logged in as ${user}`).waitFor();
}

async function shows(page: Page, unread: number): Promise<void> {
  const badge = page.getByLabel('Unread');
  await eventually(`${unread} unread`, async () => (await badge.textContent()) === String(unread));
}

/** From now on notes what of the former user the page ever shows beside the name of the next. */
async function watch(page: Page, next: string, secrets: string[]): Promise<void> {
  await page.evaluate(
    ([name, texts]) => {
      const leaks: string[] = [];
      Object.assign(window, { leaks });
      new MutationObserver(() => {
        const shown = document.body.innerText;
        if (shown.includes(name)) leaks.push(...texts.filter((text) => shown.includes(text)));
      }).observe(document.body, { subtree: true, childList: true, characterData: true });
    },
    [next, secrets] as const,
  );
}

function leaked(page: Page): Promise<string[]> {
  return page.evaluate(() => (window as unknown as { leaks: string[] }).leaks);
}

/** What `next start` starts. */
class NextServer {
  private constructor(
    readonly process: ChildProcess,
    readonly origin: string,
  ) {}

  static async start(directory: string, { postgres }: World): Promise<NextServer> {
    const port = await freePort();
    const binary = join(directory, '../node_modules/next/dist/bin/next');
    const env = { ...process.env, DATABASE_URL: postgres.url, JWT_SECRET: SECRET };
    const flags = ['--hostname', '127.0.0.1', '--port', String(port)];
    const server = spawn(process.execPath, [binary, 'start', directory, ...flags], {
      env: { ...env, NODE_ENV: 'production', NEXT_TELEMETRY_DISABLED: '1' },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const origin = `http://127.0.0.1:${port}`;
    await eventually('Next.js', async () => (await fetch(origin)).ok);
    return new NextServer(server, origin);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exit = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await exit;
  }
}

/** Skipped where nothing can be installed, loudly; or failing, where that must not be. */
async function buildAll(): Promise<typeof built> {
  try {
    return await buildExamples(packed);
  } catch (error) {
    if (!(error instanceof NoRegistryError) || process.env['CI_REQUIRE_BROWSER']) throw error;
    console.error(`SKIPPED: THE EXAMPLES WERE NOT TESTED\n${error.message}`);
    return null;
  }
}
