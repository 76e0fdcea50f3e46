import { fileURLToPath } from 'node:url';
import {
  type Browser,
  chromium as chromiumLauncher,
  firefox as firefoxLauncher,
} from 'playwright-core';
import { chromium, firefox, isFirefox } from './prerequisites.js';

/** The real browser that the tests are in. */
export function launch(): Promise<Browser> {
  return isFirefox ? launchFirefox() : launchChromium();
}

/** It asks nobody for updates meanwhile. */
function launchChromium(): Promise<Browser> {
  const flags = '--disable-background-networking --disable-component-update --disable-sync';
  return chromiumLauncher.launch({
    executablePath: chromium ?? '',
    // Playwright switches the browser's cache of left pages off; people have it.
    ignoreDefaultArgs: ['--disable-back-forward-cache'],
    args: [...flags.split(' '), '--no-first-run', '--disable-gpu', '--no-sandbox'],
  });
}

/** What Playwright itself knows of a Firefox; none of its types name it. */
interface Bidi {
  readonly _browserSession: { send: (method: string, params: unknown) => Promise<unknown> };
  readonly _bidiSessionInfo: { readonly capabilities: { readonly 'moz:processID': number } };
}

function bidi(browser: Browser): Bidi {
  const { _connection } = browser as unknown as {
    _connection: { toImpl: (browser: Browser) => Bidi };
  };
  return _connection.toImpl(browser);
}

/** The id of a Firefox's own process, from which those of its pages descend. */
export function firefoxProcess(browser: Browser): number {
  return bidi(browser)._bidiSessionInfo.capabilities['moz:processID'];
}

const START = fileURLToPath(new URL('firefox.sh', import.meta.url));

/** Firefox as it is distributed, driven by WebDriver BiDi; not Playwright's own build of it. */
async function launchFirefox(): Promise<Browser> {
  const browser = await firefoxLauncher.launch({
    channel: 'moz-firefox',
    executablePath: START,
    env: { ...process.env, FIREFOX_BIN: firefox },
    // No process is started before there is a page for it: a new one is the new page's.
    firefoxUserPrefs: { 'dom.ipc.processPrelaunch.enabled': false },
  });
  const session = bidi(browser)._browserSession;
  const send = session.send.bind(session);
  // Playwright sets each context's colour scheme, by a command that Firefox does
  // not know: no context could be opened. No test depends on a colour.
  session.send = (method, params) =>
    method === 'emulation.setMediaFeaturesOverride' ? Promise.resolve({}) : send(method, params);
  return browser;
}

/**
 * What a browser itself notes of each request that fails: Chromium in the console,
 * Firefox among the errors of the page. That a stream may fail is what the package
 * is for.
 */
const FAILED_REQUEST = [
  /^Failed to load resource/,
  /net::ERR_/,
  /has been blocked by CORS policy/,
  /^Cross-Origin Request Blocked: /,
  /^Firefox can’t establish a connection to the server at /,
  /^The connection to \S+ was interrupted while the page was loading/,
];

/** Whether a complaint is only that of the browser about a request. */
export function isFailedRequest(complaint: string): boolean {
  return FAILED_REQUEST.some((pattern) => pattern.test(complaint));
}
