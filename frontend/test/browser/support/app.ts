import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type pg from 'pg';
import { COOKIE, SECRET, sign, userOf } from './gateway.js';

const PAGES = fileURLToPath(new URL('../pages', import.meta.url));
const REACT18 = fileURLToPath(new URL('../../react18/node_modules', import.meta.url));

/**
 * The application the package is used in: its pages, its login and its REST
 * API, on the table the gateway listens to.
 */
export class App {
  readonly #server: Server;
  readonly #files: ReadonlyMap<string, string>;
  /** Set when there is a database. */
  pool: pg.Pool | null = null;
  /** What it signs its tokens with. */
  secret = SECRET;
  /** How long the tokens are good that it gives out, in seconds. */
  tokenLifetime = 3600;
  /** Whether it still knows its users. */
  isLoginOpen = true;
  /** Requests, by method and path. */
  readonly requests: string[] = [];

  private constructor(files: ReadonlyMap<string, string>) {
    this.#files = files;
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        send(response, 500, { detail: String(error) });
      });
    });
  }

  static async start(): Promise<App> {
    const app = new App(await bundle());
    app.#server.listen(0, '127.0.0.1');
    await once(app.#server, 'listening');
    return app;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', this.origin);
    const route = `${request.method ?? 'GET'} ${pathname}`;
    this.requests.push(route);
    const file = this.#files.get(pathname);
    if (file !== undefined) {
      const type = pathname.endsWith('.js') ? 'text/javascript' : 'text/css';
      response.writeHead(200, { 'content-type': type }).end(file);
      return;
    }
    if (pathname === '/favicon.ico') {
      response.writeHead(204).end();
      return;
    }
    if (pathname.startsWith('/page/')) {
      const name = pathname.slice(6);
      const html = this.#files.has(`/${name}.js`) ? page(name) : EMPTY;
      response.writeHead(200, { 'content-type': 'text/html' }).end(html);
      return;
    }
    if (route === 'POST /login') {
      const user = searchParams.get('user') ?? randomUUID();
      this.#giveToken(response, user);
      return;
    }

    const user = userOf(bearer(request) ?? cookie(request) ?? '', this.secret);
    if (user === null || this.pool === null) {
      send(response, 401, {});
      return;
    }
    const limit = Number(searchParams.get('limit') ?? 20);
    const ids = searchParams.getAll('id');
    switch (route) {
      case 'GET /api/notifications': {
        const { rows } = await this.pool.query<object>(LIST, [user, limit]);
        send(response, 200, rows);
        return;
      }
      case 'GET /api/notifications/unread-count': {
        const { rows } = await this.pool.query<object>(COUNT, [user]);
        send(response, 200, rows[0]);
        return;
      }
      case 'GET /api/notifications/page': {
        const { rows } = await this.pool.query<object>(PAGE, [user, limit]);
        send(response, 200, rows[0]);
        return;
      }
      case 'POST /api/notifications/read': {
        const all = ids.length === 0;
        await this.pool.query(MARK, [user, all, ids]);
        send(response, 200, {});
        return;
      }
      case 'POST /api/notifications/unread':
      case 'POST /api/notifications/archive': {
        const status = route.endsWith('unread') ? 'unread' : 'archived';
        await this.pool.query(SET, [user, ids, status]);
        send(response, 200, {});
        return;
      }
      case 'POST /api/notifications/delete': {
        await this.pool.query(DELETE, [user, ids]);
        send(response, 200, {});
        return;
      }
    }
    send(response, 404, {});
  }

  #giveToken(response: ServerResponse, user: string): void {
    if (!this.isLoginOpen) {
      send(response, 403, {});
      return;
    }
    const token = sign(user, this.tokenLifetime, this.secret);
    response.setHeader('set-cookie', `${COOKIE}=${token}; Path=/; HttpOnly; SameSite=Lax`);
    send(response, 200, { token });
  }
}

const COLUMNS = 'id, type, title, message, status, metadata, created_at, related_session_id';
const NEWEST = `SELECT ${COLUMNS} FROM notifications WHERE user_id = $1 AND status <> 'archived' ORDER BY created_at DESC, id LIMIT $2`;
const COUNT = `SELECT count(*)::int AS count FROM notifications WHERE user_id = $1 AND status = 'unread'`;
const LIST = NEWEST;
const PAGE = `SELECT (${COUNT}) AS "unreadCount",
  coalesce((SELECT json_agg(newest) FROM (${NEWEST}) newest), '[]') AS notifications`;
const MARK = `UPDATE notifications SET status = 'read' WHERE user_id = $1 AND ($2 OR id = ANY($3::uuid[]))`;

const SET = `UPDATE notifications SET status = $3 WHERE user_id = $1 AND id = ANY($2::uuid[])`;
const DELETE = `DELETE FROM notifications WHERE user_id = $1 AND id = ANY($2::uuid[])`;

/** The pages' scripts, each in one file, as the app's own bundler would make them. */
async function bundle(): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  const add = async (name: string, entry: string, alias: Record<string, string>): Promise<void> => {
    const { outputFiles } = await build({
      entryPoints: [join(PAGES, entry)],
      outfile: `/${name}.js`,
      bundle: true,
      format: 'esm',
      target: 'es2022',
      jsx: 'automatic',
      define: { 'process.env.NODE_ENV': '"development"' },
      alias,
      write: false,
      logLevel: 'error',
    });
    for (const { path, text } of outputFiles) files.set(path, text);
  };
  await add('core', 'core.ts', {});
  await add('react19', 'react.tsx', {});
  await add('react18', 'react.tsx', {
    react: join(REACT18, 'react'),
    'react-dom': join(REACT18, 'react-dom'),
  });
  return files;
}

/** A page of the app that has nothing of the package. */
const EMPTY = '<!doctype html><html lang="en"><title>elsewhere</title><body></body></html>';

function page(name: string): string {
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${name}</title>
<link rel="stylesheet" href="/${name}.css"><body><main id="root"></main>
<script type="module" src="/${name}.js"></script></body></html>`;
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function bearer({ headers }: IncomingMessage): string | undefined {
  return /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1];
}

function cookie({ headers }: IncomingMessage): string | undefined {
  return new RegExp(`(?:^|; )${COOKIE}=([^;]+)`).exec(headers.cookie ?? '')?.[1];
}
