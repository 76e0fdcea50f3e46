/** How the bell looks on pages of all kinds; `PICTURES=directory` keeps the pictures. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Tab, World } from './support/world.js';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.clear());
afterAll(() => world.stop());

/** Style sheets that pages really have; those of packages are read where npm has put them. */
const SHEETS = {
  'vite-template': [
    '../../test/consumers/vite/src/index.css',
    '../../test/consumers/vite/src/App.css',
    // What the template was for years: dark, with buttons of its own.
    `:root { color-scheme: light dark; color: rgba(255, 255, 255, 0.87); background-color: #242424; }
    body { margin: 0; display: flex; place-items: center; min-width: 320px; min-height: 100vh; }
    #root { max-width: 1280px; margin: 0 auto; padding: 2rem; text-align: center; }
    a { font-weight: 500; color: #646cff; text-decoration: inherit; }
    button { border-radius: 8px; border: 1px solid transparent; padding: 0.6em 1.2em; font-size: 1em;
      font-weight: 500; font-family: inherit; background-color: #1a1a1a; cursor: pointer; }
    button:hover { border-color: #646cff; }`,
  ],
  tailwind: ['../../node_modules/tailwindcss/preflight.css'],
  'tailwind-3': ['../../node_modules/@unocss/reset/tailwind.css'],
  bootstrap: ['../../node_modules/bootstrap/dist/css/bootstrap-reboot.css'],
  'all-unset': ['button { all: unset; } * { margin: 0; } a { all: unset; }'],
} as const;

/** What a page hands down, and what is seen behind the panel, is its own affair: the same for all. */
const HANDED_DOWN = `:root { background: #fff !important } .ng-bell { font: 16px/1.5 sans-serif; letter-spacing: normal; color: #1b1c22;
  color-scheme: light; text-rendering: auto; word-break: normal; font-synthesis: weight style;
  -webkit-font-smoothing: auto; font-feature-settings: normal; tab-size: 8; }`;

async function read(sheet: keyof typeof SHEETS): Promise<string> {
  let css = '';
  for (const part of SHEETS[sheet]) {
    const isFile = part.startsWith('../');
    css += isFile ? await readFile(new URL(part, import.meta.url), 'utf8') : part;
  }
  return css;
}

async function told(user: string): Promise<void> {
  const rows = [
    ['info', 'Ada mentioned you', '“Could you look at the second page before noon?”', 'read'],
    ['warning', 'The disk of db-2 is nearly full', '91 % of 200 GB', 'unread'],
    ['error', 'The import of orders.csv has failed', 'Line 1,204 has no date.', 'unread'],
    ['success', 'Export ready', 'Your export of 3,120 rows is ready to download.', 'unread'],
  ];
  for (const [at, row] of rows.entries()) {
    await world.postgres.pool.query(
      `INSERT INTO notifications (user_id, type, title, message, status, created_at)
       VALUES ($1, $2, $3, $4, $5, now() - $6 * interval '1 minute')`,
      [user, ...row, [1500, 190, 34, 2][at]],
    );
  }
}

async function picture(tab: Tab, name: string): Promise<void> {
  const directory = process.env['PICTURES'];
  if (directory) await tab.page.screenshot({ path: join(directory, `bell-${name}.png`) });
}

/** What must hold however it looks. */
async function isWellDrawn(tab: Tab): Promise<void> {
  const drawn = await tab.page.evaluate(() => {
    const box = (selector: string): DOMRect =>
      document.querySelector(selector)?.getBoundingClientRect() ?? new DOMRect();
    const style = (selector: string): CSSStyleDeclaration =>
      getComputedStyle(document.querySelector(selector) ?? document.body);
    const [button, panel, item, icon] = [
      box('.ng-bell__button'),
      box('.ng-bell__panel'),
      box('.ng-bell__entry'),
      box('.ng-bell__icon'),
    ];
    return {
      isRound: Math.abs(button.width - button.height) < 1 && button.width === 40,
      iconIsInside: icon.width > 15 && icon.left > button.left && icon.right < button.right,
      itemIsWide: Math.abs(item.width - (panel.width - 2)) <= 2,
      padding: style('.ng-bell__entry').paddingInlineStart,
      itemPadding: style('.ng-bell__item').paddingInlineStart,
      align: style('.ng-bell__content').textAlign,
      border: style('.ng-bell__item').borderTopWidth,
      isBare: style('.ng-bell__all').backgroundColor.endsWith(', 0)'),
      list: style('.ng-bell__list').paddingInlineStart,
      decoration: style('.ng-bell__item').textDecorationLine,
    };
  });
  expect(drawn).toEqual({
    isRound: true,
    iconIsInside: true,
    itemIsWide: true,
    padding: '16px',
    itemPadding: '0px',
    align: 'start',
    border: '0px',
    isBare: true,
    list: '0px',
    decoration: 'none',
  });
}

interface Look {
  readonly sheet?: keyof typeof SHEETS;
  readonly scheme?: 'light' | 'dark';
  readonly forced?: boolean;
  readonly dir?: 'rtl';
  readonly density?: 'compact';
  readonly size?: { readonly width: number; readonly height: number };
}

test.each<[string, Look]>([
  ['light', {}],
  ['dark', { scheme: 'dark' }],
  ['phone', { size: { width: 390, height: 700 } }],
  ['compact', { density: 'compact' }],
  ['right-to-left', { dir: 'rtl' }],
  ['forced-colours', { forced: true }],
  ['vite-template', { sheet: 'vite-template', scheme: 'dark' }],
  ['tailwind', { sheet: 'tailwind' }],
  ['tailwind-3', { sheet: 'tailwind-3' }],
  ['bootstrap', { sheet: 'bootstrap' }],
  ['all-unset', { sheet: 'all-unset' }],
])('is well drawn: %s', async (name, look) => {
  const { sheet, scheme = 'light', forced, dir, density, size } = look;
  const visitor = await world.visitor();
  await told(visitor.user);
  const tab = await visitor.open({ page: 'react19', api: 'full' });
  await tab.shows(3);
  await tab.page.setViewportSize(size ?? { width: 720, height: 480 });
  await tab.page.emulateMedia({
    colorScheme: scheme,
    forcedColors: forced ? 'active' : 'none',
    reducedMotion: 'reduce',
  });
  // The page's own comes before the package's, as often as after it.
  await tab.page.evaluate(
    ({ css, direction, ...given }) => {
      document.documentElement.dir = direction;
      const style = document.createElement('style');
      style.textContent = `${css}
        .ng-bell { position: absolute; top: 12px; inset-inline-end: 16px; }`;
      document.head.prepend(style);
      window.probe.setBell?.({
        getHref: ({ type }) => (type === 'success' ? '#' : null),
        density: given.density ?? undefined,
      });
    },
    {
      css: sheet
        ? await read(sheet)
        : `:root { color-scheme: ${scheme} } body { font: 16px system-ui }`,
      direction: dir ?? 'ltr',
      density: density ?? null,
    },
  );
  await tab.page.getByRole('button', { name: /^Notifications/ }).click();
  await tab.page.getByRole('dialog').waitFor();
  await isWellDrawn(tab);
  if (density) await tab.page.locator('.ng-bell__entry').nth(1).hover();
  await picture(tab, name);
  await visitor.leave();
});

test.each(Object.keys(SHEETS) as (keyof typeof SHEETS)[])(
  'has not one other pixel on the page of: %s',
  async (sheet) => {
    const visitor = await world.visitor();
    await told(visitor.user);
    const tab = await visitor.open({ page: 'react19', api: 'full' });
    await tab.shows(3);
    await tab.page.setViewportSize({ width: 720, height: 480 });
    await tab.page.emulateMedia({ reducedMotion: 'reduce' });
    await tab.page.evaluate(() =>
      window.probe.setBell?.({
        getHref: ({ type }) => (type === 'success' ? '#' : null),
        formatTime: () => 'then',
        footer: 'All of them',
      }),
    );
    await tab.page.addStyleTag({
      content: `${HANDED_DOWN} .ng-bell { position: absolute; top: 12px; right: 16px }`,
    });
    await tab.page.getByRole('button', { name: /^Notifications/ }).click();
    const panel = tab.page.getByRole('dialog');
    const plain = await panel.screenshot();
    await tab.page.evaluate(
      (css) => {
        const style = document.createElement('style');
        style.textContent = css;
        document.head.prepend(style);
      },
      await read(sheet),
    );
    const styled = await panel.screenshot();
    if (!styled.equals(plain) && process.env['PICTURES']) {
      await writeFile(join(process.env['PICTURES'], `differs-${sheet}.png`), styled);
    }
    expect(styled.equals(plain)).toBe(true);
    await visitor.leave();
  },
);
