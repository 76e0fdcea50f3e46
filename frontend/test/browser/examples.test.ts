/** The recipes of examples/ with the package as it is published, and what their READMEs promise. */
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { pack } from '../../scripts/tarball.js';
import { NoRegistryError } from '../consumers/consumer.js';
import { buildExamples } from '../consumers/examples.js';
import { isFailedRequest } from './support/browser.js';
import { Site } from './support/site.js';
import { eventually } from './support/wait.js';
import { World } from './support/world.js';

let world: World;
let packed: Awaited<ReturnType<typeof pack>>;
/** Null where nothing can be installed. */
let pages: string | null;
beforeAll(async () => {
  packed = await pack();
  [world, pages] = await Promise.all([World.start(), builtPages()]);
});
afterEach(() => world.clear());
afterAll(async () => {
  await world.stop();
  rmSync(packed.directory, { recursive: true });
});

describe.each(['tanstack-query', 'redux', 'plain-html', 'vue', 'svelte'])('%s', (name) => {
  test('a row counts, a read one does not, and the next user sees none', async ({ skip }) => {
    const directory = pages ?? skip("npm's registry is not there");
    await using site = await Site.ofFiles(world, (path) =>
      readFile(join(directory, path.replace(/\/$/, '/index.html'))),
    );
    const { user, context, complaints } = await world.visitor();
    const next = randomUUID();
    await world.postgres.insert(next, "the next one's");
    const page = await context.newPage();
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('console', (message) => {
      const text = message.text();
      if (message.type() === 'error' && !isFailedRequest(text)) complaints.push(text);
    });
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

/** Skipped where nothing can be installed, loudly; or failing, where that must not be. */
async function builtPages(): Promise<string | null> {
  try {
    return await buildExamples(packed);
  } catch (error) {
    if (!(error instanceof NoRegistryError) || process.env['CI_REQUIRE_BROWSER']) throw error;
    console.error(`SKIPPED: THE EXAMPLES WERE NOT TESTED\n${error.message}`);
    return null;
  }
}
