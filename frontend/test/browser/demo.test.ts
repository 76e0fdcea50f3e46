/** The page of `make run`, the package's first user, as the gateway's binary carries it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch } from './support/browser.js';
import { gatewayBinary } from './support/prerequisites.js';
import { eventually } from './support/wait.js';

let gateway: ChildProcess;
let browser: Browser;
let address: string;
let psql: string;
beforeAll(async () => {
  const anywhere = ['--bind', '127.0.0.1:0', '--admin-bind', '127.0.0.1:0'];
  gateway = spawn(gatewayBinary, ['dev', ...anywhere], { stdio: ['ignore', 'pipe', 'ignore'] });
  let printed = '';
  gateway.stdout?.on('data', (bytes: Buffer) => {
    printed += bytes.toString();
  });
  const line = (name: string): string =>
    new RegExp(`^ *${name}: +(.+)$`, 'm').exec(printed)?.[1] ?? '';
  await eventually('the last line', () => Promise.resolve(line('psql') !== ''));
  address = line('page').split(' ')[0] ?? '';
  psql = line('psql');
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

/** `PICTURES=directory` keeps what the README shows: the bell beside the line that rang it. */
test('the line for psql that is printed rings the bell', async () => {
  const context = await browser.newContext({
    viewport: { width: 920, height: 330 },
    deviceScaleFactor: 2,
  });
  const page = await context.newPage();
  await page.setContent(`<style>
      body { margin: 0; display: flex; background: #e9eaf0; font: 15px/1.55 ui-monospace, monospace }
      pre { flex: 1; margin: 16px 0 16px 16px; padding: 16px 18px; border-radius: 10px; background: #1b1d26;
        color: #d7dae5; white-space: pre-wrap; font: inherit; font-size: 13.5px }
      iframe { flex: 1.1; margin: 16px; border: 0; border-radius: 10px; background: #fff }
    </style><pre></pre><iframe src="${address}"></iframe>`);
  const demo = page.frameLocator('iframe');
  const ada = demo.locator('.user', { hasText: 'Ada' });
  await ada.getByText('Live').waitFor();
  const before = Number(
    (await ada.locator('.ng-bell__badge').count()) &&
      (await ada.locator('.ng-bell__badge').textContent()),
  );
  const { stdout } = await promisify(execFile)('bash', ['-c', psql]);
  await eventually('the badge', async () => {
    return Number(await ada.locator('.ng-bell__badge').textContent()) === before + 1;
  });
  const [, sql = ''] = /-c "(.*)"/.exec(psql) ?? [];
  const lines = sql.replace(' (', '\n  (').replace(' VALUES', '\nVALUES').replace(/, '/, ",\n  '");
  const typed = `$ psql "$DATABASE_URL"\n\napp=# ${lines};\n\n${stdout}app=# ▮`;
  await page.locator('pre').evaluate((pre, text) => {
    pre.textContent = text;
  }, typed);
  expect(stdout).toContain('INSERT 0 1');
  const directory = process.env['PICTURES'];
  if (directory) {
    await ada
      .getByRole('button', { name: /notification/i })
      .first()
      .click();
    await ada.locator('.ng-bell__panel').getByText('typed in psql').waitFor();
    await ada.evaluate((card) => {
      card.scrollIntoView();
    });
    await page.mouse.move(5, 5);
    await page.screenshot({ path: join(directory, 'first-screen.png') });
  }
  await context.close();
});
