import { randomUUID } from 'node:crypto';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { expect } from 'vitest';
import type {} from '../pages/setup.js';
import { App } from './app.js';
import { isFailedRequest, launch } from './browser.js';
import { Gateway } from './gateway.js';
import { Postgres } from './postgres.js';
import { eventually } from './wait.js';

/** How a page is opened: which of the bundles, and what its query says. */
export interface PageOptions {
  readonly page?: 'core' | 'react19' | 'react18';
  readonly transport?: 'fetch' | 'event-source';
  readonly api?: 'separate' | 'page' | 'full' | 'none';
  readonly share?: 'no';
  readonly stream?: 'no';
  readonly url?: string;
}

/** The two ways to stream; what holds for one has to hold for the other. */
export const TRANSPORTS = ['fetch', 'event-source'] as const;

/** A database, a gateway, an app and a browser, all of them real. */
export class World {
  readonly #visitors: Visitor[] = [];

  private constructor(
    readonly postgres: Postgres,
    readonly gateway: Gateway,
    readonly app: App,
    readonly browser: Browser,
  ) {}

  static async start(): Promise<World> {
    const [postgres, app] = await Promise.all([Postgres.start(), App.start()]);
    app.pool = postgres.pool;
    const gateway = await Gateway.start(postgres, app.origin);
    return new World(postgres, gateway, app, await launch());
  }

  async stop(): Promise<void> {
    await this.browser.close();
    await this.app.stop();
    await this.gateway.stop();
    await this.postgres.stop();
  }

  /** Somebody with a browser of their own. */
  async visitor(): Promise<Visitor> {
    const { app, gateway, browser } = this;
    const visitor = new Visitor(app.origin, gateway.streamUrl, await browser.newContext());
    this.#visitors.push(visitor);
    return visitor;
  }

  /** The gateway has noticed that those of the test before are gone. */
  async isQuiet(): Promise<void> {
    await eventually('no stream', async () => (await this.gateway.streams()) === 0);
  }

  /** Sends those home whom a test that failed has left. */
  async clear(): Promise<void> {
    for (const visitor of this.#visitors.splice(0)) await visitor.context.close();
  }
}

/** A user and the browser they sit at. */
export class Visitor {
  readonly user = randomUUID();
  /** What the pages complained about, and no test expects. */
  readonly complaints: string[] = [];
  /** What the package itself said to the developer. */
  readonly warnings: string[] = [];

  constructor(
    readonly app: string,
    readonly streamUrl: string,
    readonly context: BrowserContext,
  ) {}

  async open(options: PageOptions = {}): Promise<Tab> {
    const page = await this.context.newPage();
    const complain = (kind: string, text: string): void => {
      if (!isFailedRequest(text)) this.complaints.push(`${kind}: ${text}`);
    };
    page.on('pageerror', (error) => {
      complain('uncaught', String(error));
    });
    page.on('console', (message) => {
      const [kind, text] = [message.type(), message.text()];
      if (text.startsWith('notify-gateway: ')) this.warnings.push(text);
      else if (['error', 'warning'].includes(kind)) complain(kind, text);
    });
    const { page: name = 'core', url = this.streamUrl, ...rest } = options;
    const query = new URLSearchParams({ user: this.user, url, ...rest });
    await page.goto(`${this.app}/page/${name}?${query.toString()}`);
    await page.waitForFunction(() => window.probe.client !== null);
    return new Tab(page);
  }

  /** Closes the browser; fails when a page has complained. */
  async leave(): Promise<void> {
    await this.context.close();
    expect(this.complaints).toEqual([]);
  }
}

/** A page with the package in it. */
export class Tab {
  constructor(readonly page: Page) {}

  state() {
    return this.page.evaluate(() => {
      const state = window.probe.client?.getState();
      if (!state) throw new Error('no client');
      return state;
    });
  }

  probe() {
    return this.page.evaluate(() => {
      const { statuses, arrived, toasts, rung, authenticationErrors, errors, tokens } =
        window.probe;
      return { statuses, arrived, toasts, rung, authenticationErrors, errors, tokens };
    });
  }

  async is(status: string): Promise<void> {
    await eventually(`a tab that is ${status}`, async () => (await this.state()).status === status);
  }

  /** Waits until the stream is open and the list was fetched. */
  async isReady(): Promise<void> {
    await eventually('an open stream', async () => {
      const { status, isLoaded } = await this.state();
      return status === 'open' && isLoaded;
    });
  }

  async shows(unreadCount: number): Promise<void> {
    await eventually(
      `${unreadCount} unread`,
      async () => (await this.state()).unreadCount === unreadCount,
    );
  }

  /** Somebody else logs in at this page, or nobody is. */
  async become(user: string | null): Promise<void> {
    await this.page.evaluate((next) => {
      window.probe.become?.(next);
    }, user);
  }

  /** The page comes into view or goes out of it, as far as scripts can see. */
  async look(isSeen: boolean): Promise<void> {
    await this.page.evaluate((is) => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => !is });
      document.dispatchEvent(new Event('visibilitychange'));
    }, isSeen);
  }

  /** The titles that arrived, in their order. */
  async arrived(): Promise<string[]> {
    return (await this.probe()).arrived.map(({ title }) => title);
  }
}
