import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { chownSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { postgresBinaries } from './prerequisites.js';
import { eventually } from './wait.js';

/**
 * Waits for the end of its standard input, then stops the server: however the
 * tests end, the server ends with them.
 */
const GUARD = '"$@" & server=$!; read -r _; kill -INT $server; wait $server';

/** A PostgreSQL server in a temporary directory. */
export class Postgres {
  readonly #directory = mkdtempSync(join(tmpdir(), 'notify-gateway-browser-'));
  readonly #account = account();
  readonly #port: number;
  #process: ChildProcess | null = null;
  readonly pool: pg.Pool;

  private constructor(port: number) {
    this.#port = port;
    this.pool = new pg.Pool({ connectionString: this.url, max: 4 });
    // Connections that a restart cuts are replaced when they are next needed.
    this.pool.on('error', () => undefined);
  }

  static async start(): Promise<Postgres> {
    const postgres = new Postgres(await freePort());
    const { uid, gid } = postgres.#account;
    if (uid !== undefined && gid !== undefined) chownSync(postgres.#directory, uid, gid);
    const initdb = ['-D', postgres.#data, '-A', 'trust', '-U', 'postgres', '--no-sync'];
    execFileSync(binary('initdb'), [...initdb, '-E', 'UTF8', '--locale', 'C'], {
      ...postgres.#account,
      cwd: postgres.#directory,
      stdio: 'ignore',
    });
    await postgres.startServer();
    return postgres;
  }

  get url(): string {
    return `postgres://postgres@127.0.0.1:${this.#port}/postgres`;
  }

  get #data(): string {
    return join(this.#directory, 'data');
  }

  async startServer(): Promise<void> {
    const log = openSync(join(this.#directory, 'log'), 'a');
    const server = [binary('postgres'), '-D', this.#data, '-p', String(this.#port)];
    for (const setting of ['listen_addresses=127.0.0.1', 'unix_socket_directories=', 'fsync=off']) {
      server.push('-c', setting);
    }
    this.#process = spawn('/bin/sh', ['-c', GUARD, 'guard', ...server], {
      ...this.#account,
      cwd: this.#directory,
      stdio: ['pipe', log, log],
    });
    await eventually('PostgreSQL', async () => {
      await this.pool.query('SELECT 1');
      return true;
    });
  }

  /** As `pg_ctl stop -m fast` does; the data stays. */
  async stopServer(): Promise<void> {
    const server = this.#process;
    this.#process = null;
    if (server === null) return;
    const exit = once(server, 'exit');
    server.stdin?.end();
    await exit;
  }

  /** As a crash: nobody is told, and the next start has to recover. */
  async crash(): Promise<void> {
    const [pid] = readFileSync(join(this.#data, 'postmaster.pid'), 'utf8').split('\n');
    process.kill(Number(pid), 'SIGQUIT');
    await this.stopServer();
  }

  async stop(): Promise<void> {
    await this.pool.end();
    await this.stopServer();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** What a DBA types. */
  async psql(sql: string): Promise<void> {
    const args = ['--no-psqlrc', '--quiet', '-v', 'ON_ERROR_STOP=1', '-d', this.url, '-c', sql];
    await promisify(execFile)(binary('psql'), args);
  }

  /** Inserts rows as an application would, in one transaction. */
  async insert(user: string, ...titles: string[]): Promise<void> {
    await this.pool.query(
      `INSERT INTO notifications (user_id, title, message) SELECT $1, title, 'text' FROM unnest($2::text[]) title`,
      [user, titles],
    );
  }

  async unreadCount(user: string): Promise<number> {
    const { rows } = await this.pool.query<{ count: number }>(
      `SELECT count(*)::int FROM notifications WHERE user_id = $1 AND status = 'unread'`,
      [user],
    );
    return rows[0]?.count ?? 0;
  }

  /** The ids of a user's rows. */
  async ids(user: string): Promise<string[]> {
    const { rows } = await this.pool.query<{ id: string }>(
      'SELECT id FROM notifications WHERE user_id = $1',
      [user],
    );
    return rows.map(({ id }) => id);
  }
}

/**
 * A port nobody listens on, for a server that is to come back on it: below those
 * the kernel gives to outgoing connections (32768 and up on Linux), or one of
 * these would have it while the server is away.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(15_000, 32_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => {
        resolve(false);
      });
      server.listen(port, '127.0.0.1', () => {
        resolve(true);
      });
    });
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

export function binary(name: string): string {
  return join(postgresBinaries ?? '', name);
}

/** PostgreSQL refuses to run as root. */
function account(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const id = (flag: string): number =>
    Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}
