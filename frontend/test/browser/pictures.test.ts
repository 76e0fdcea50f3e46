/** How the bell looks on pages of all kinds; `PICTURES=directory` keeps the pictures. */
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Tab, World } from './support/world.js';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.clear());
afterAll(() => world.stop());

/** What other people's style sheets do to a page, in their own words or the gist of them. */
const SHEETS = {
  'vite-template': `
    :root { font-family: system-ui, sans-serif; line-height: 1.5; font-weight: 400;
      color-scheme: light dark; color: rgba(255, 255, 255, 0.87); background-color: #242424; }
    body { margin: 0; display: flex; place-items: center; min-width: 320px; min-height: 100vh; }
    #root { max-width: 1280px; margin: 0 auto; padding: 2rem; text-align: center; }
    a { font-weight: 500; color: #646cff; text-decoration: inherit; }
    button { border-radius: 8px; border: 1px solid transparent; padding: 0.6em 1.2em; font-size: 1em;
      font-weight: 500; font-family: inherit; background-color: #1a1a1a; cursor: pointer; }
    button:hover { border-color: #646cff; }`,
  tailwind: `
    @layer base { *, ::after, ::before { box-sizing: border-box; margin: 0; padding: 0; border: 0 solid; }
      a { color: inherit; text-decoration: inherit; } ol, ul, menu { list-style: none; }
      img, svg, video, canvas { display: block; vertical-align: middle; }
      button, input { font: inherit; color: inherit; background-color: transparent; border-radius: 0; } }
    *, ::before, ::after { box-sizing: border-box; border-width: 0; border-style: solid; border-color: #e5e7eb; }
    blockquote, dl, dd, h1, h2, p, pre { margin: 0; } ol, ul { list-style: none; margin: 0; padding: 0; }
    button, [type='button'] { background-color: transparent; background-image: none; text-transform: none;
      font-family: inherit; font-size: 100%; line-height: inherit; color: inherit; margin: 0; padding: 0; }
    svg { display: block; vertical-align: middle; }`,
  bootstrap: `
    *, ::after, ::before { box-sizing: border-box; }
    body { margin: 0; font: 400 1rem/1.5 system-ui, sans-serif; color: #212529; background: #fff; }
    p { margin-top: 0; margin-bottom: 1rem; } ol, ul { padding-left: 2rem; margin-bottom: 1rem; }
    a { color: #0d6efd; text-decoration: underline; } svg { vertical-align: middle; }
    button { border-radius: 0; margin: 0; font-family: inherit; font-size: inherit; text-transform: none; }
    [role=button] { cursor: pointer; } button:focus:not(:focus-visible) { outline: 0; }`,
  'all-unset': 'button { all: unset; } * { margin: 0; } a { all: unset; }',
} as const;

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
        ? SHEETS[sheet]
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
