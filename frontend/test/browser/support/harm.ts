import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { firefoxProcess } from './browser.js';
import { isFirefox } from './prerequisites.js';
import { eventually } from './wait.js';
import type { PageOptions, Tab, Visitor } from './world.js';

/** What becomes of a page without its doing. */
export interface Harm {
  /** It ends without a word. */
  readonly crash: () => Promise<void>;
  /** Nothing runs in it any more, as in a tab that iOS has put in the background. */
  readonly freeze: () => Promise<void>;
  readonly thaw: () => Promise<void>;
}

/** Opens a page that can be harmed: by Chromium's DevTools, in Firefox by its process. */
export async function openForHarm(
  visitor: Visitor,
  options: PageOptions = {},
): Promise<[Tab, Harm]> {
  if (!isFirefox) {
    const tab = await visitor.open(options);
    return [tab, byDevTools(tab)];
  }
  const before = await pageProcesses(visitor);
  const tab = await visitor.open(options);
  let added: number[] = [];
  // The empty page that was there first had another process, which ends.
  await eventually("the page's process alone", async () => {
    added = (await pageProcesses(visitor)).filter((id) => !before.includes(id));
    return added.length === 1;
  });
  return [tab, bySignal(added[0] ?? NaN)];
}

function byDevTools({ page }: Tab): Harm {
  const session = page.context().newCDPSession(page);
  const become = async (state: 'frozen' | 'active'): Promise<void> => {
    await (await session).send('Page.setWebLifecycleState', { state });
  };
  return {
    crash: async () => {
      const crash = page.waitForEvent('crash');
      (await session).send('Page.crash').catch(() => undefined);
      await crash;
    },
    freeze: () => become('frozen'),
    thaw: () => become('active'),
  };
}

function bySignal(id: number): Harm {
  const send = (signal: NodeJS.Signals) => (): Promise<void> => {
    process.kill(id, signal);
    return Promise.resolve();
  };
  return { crash: send('SIGKILL'), freeze: send('SIGSTOP'), thaw: send('SIGCONT') };
}

/** The processes in which a Firefox has its pages. */
async function pageProcesses({ context }: Visitor): Promise<number[]> {
  const browser = context.browser();
  if (browser === null) throw new Error('no browser');
  const { stdout } = await promisify(execFile)('ps', ['-e', '-o', 'pid=,args=']);
  const isPage = new RegExp(` -contentproc .* -parentPid ${firefoxProcess(browser)} .* tab$`);
  return stdout
    .split('\n')
    .filter((line) => isPage.test(line))
    .map((line) => parseInt(line, 10));
}
