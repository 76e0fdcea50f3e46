/** The page of `make run`, the package's first user, as the gateway's binary carries it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch } from './support/browser.js';
import { gatewayBinary } from './support/prerequisites.js';
import { eventually } from './support/wait.js';

let gateway: ChildProcess;
let browser: Browser;
let address: string;
beforeAll(async () => {
  const anywhere = ['--bind', '127.0.0.1:0', '--admin-bind', '127.0.0.1:0'];
  gateway = spawn(gatewayBinary, ['dev', ...anywhere], { stdio: ['ignore', 'pipe', 'ignore'] });
  let printed = '';
  gateway.stdout?.on('data', (bytes: Buffer) => {
    printed += bytes.toString();
  });
  const url = (): string | undefined => /page:\s+(\S+)/.exec(printed)?.[1];
  await eventually('the address of the page', () => Promise.resolve(url() !== undefined));
  address = url() ?? '';
  browser = await launch();
});
afterAll(async () => {
  await browser.close();
  gateway.kill('SIGTERM');
  await once(gateway, 'exit');
});

function user(page: Page, name: string) {
  const card = page.locator('.user', { hasText: name });
  return {
    card,
    insert: () => card.getByRole('button', { name: 'Insert row' }).click(),
    entries: card.locator('.inbox .ng-bell__entry'),
    badge: card.locator('.ng-bell__badge'),
  };
}

test('what is inserted rings the bell of its user and nobody else’s, in every tab', async () => {
  const context = await browser.newContext();
  const complaints: string[] = [];
  const pages = [await context.newPage(), await context.newPage()] as const;
  for (const page of pages) {
    page.on('pageerror', (error) => complaints.push(String(error)));
    await page.goto(address);
    await page.getByText('Live').nth(1).waitFor();
  }
  const [ada, grace] = [user(pages[0], 'Ada'), user(pages[0], 'Grace')];
  await ada.insert();
  await ada.insert();
  for (const page of pages) {
    const { entries, badge } = user(page, 'Ada');
    await eventually('two entries', async () => (await entries.count()) === 2);
    expect(await badge.textContent()).toBe('2');
  }
  expect(await grace.entries.count()).toBe(0);
  await pages[0]
    .getByText(/Insert to arrival/)
    .first()
    .waitFor();

  await ada.entries.first().hover();
  await ada.entries.first().getByRole('button', { name: 'Delete' }).click();
  await ada.card.getByRole('button', { name: 'Mark all as read' }).click();
  for (const page of pages) {
    const { entries, badge } = user(page, 'Ada');
    await eventually('one that is read', async () => {
      return (await entries.count()) === 1 && (await badge.count()) === 0;
    });
  }
  expect(complaints).toEqual([]);
  await context.close();
});
