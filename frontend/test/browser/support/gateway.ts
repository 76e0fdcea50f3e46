import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Postgres, binary, freePort } from './postgres.js';
import { gatewayBinary } from './prerequisites.js';
import { eventually } from './wait.js';

export const SECRET = 'the secret of the browser tests, long enough for HS256';
export const COOKIE = 'session';
export const HEARTBEAT_MS = 2_000;

/** The real gateway, as a process that can be killed and comes back on its port. */
export class Gateway {
  readonly #directory = mkdtempSync(join(tmpdir(), 'notify-gateway-log-'));
  #process: ChildProcess | null = null;
  readonly #onExit = (): void => void this.#process?.kill('SIGKILL');

  private constructor(
    readonly port: number,
    readonly adminPort: number,
    readonly databaseUrl: string,
    readonly origin: string,
  ) {
    process.on('exit', this.#onExit);
  }

  static async start(postgres: Postgres, origin: string): Promise<Gateway> {
    const schema = execFileSync(gatewayBinary, ['schema']);
    const psql = ['--no-psqlrc', '--quiet', '-v', 'ON_ERROR_STOP=1', '-d', postgres.url];
    execFileSync(binary('psql'), psql, { input: schema, stdio: ['pipe', 'ignore', 'pipe'] });
    const gateway = new Gateway(await freePort(), await freePort(), postgres.url, origin);
    await gateway.run();
    return gateway;
  }

  get streamUrl(): string {
    return `http://127.0.0.1:${this.port}/api/notifications/stream`;
  }

  /** Starts the process, with other flags where a test wants them, and waits until it is ready. */
  async run(...flags: string[]): Promise<void> {
    const log = openSync(join(this.#directory, 'log'), 'a');
    const address = (port: number): string => `127.0.0.1:${port}`;
    const settings = {
      'database-url': this.databaseUrl,
      bind: address(this.port),
      'admin-bind': address(this.adminPort),
      'jwt-secret': SECRET,
      'jwt-cookie': COOKIE,
      'jwt-leeway': '0s',
      'cors-origins': this.origin,
      heartbeat: `${HEARTBEAT_MS}ms`,
      // One machine plays all clients.
      'connect-rate': '0',
      'user-connect-rate': '0',
    };
    const args = Object.entries(settings).map(([name, value]) => `--${name}=${value}`);
    const own = args.filter(
      (arg) => !flags.some((flag) => flag.split('=')[0] === arg.split('=')[0]),
    );
    this.#process = spawn(gatewayBinary, ['serve', ...own, ...flags], {
      stdio: ['ignore', log, log],
      env: { ...process.env, RUST_LOG: 'info,notify_gateway=trace' },
    });
    await eventually('a ready gateway', async () => {
      if (this.#process?.exitCode !== null) throw new Error(`the gateway has ended:\n${this.log}`);
      return (await fetch(`http://${address(this.adminPort)}/readyz`)).ok;
    });
  }

  /** SIGKILL leaves no time for a goodbye, SIGTERM does. */
  async kill(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child?.exitCode !== null) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    await exit;
  }

  /** Holds the process still: its sockets stay open and say nothing. */
  freeze(): void {
    this.#process?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#process?.kill('SIGCONT');
  }

  async stop(): Promise<void> {
    await this.kill('SIGTERM');
    process.off('exit', this.#onExit);
    // Parts of a JWT begin so.
    for (const secret of ['eyJ', SECRET, 'postgres://']) {
      if (this.log.includes(secret)) throw new Error(`the log holds ${secret}:\n${this.log}`);
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** How many streams are open, by its own gauge. */
  async streams(): Promise<number> {
    const metrics = await fetch(`http://127.0.0.1:${this.adminPort}/metrics`);
    const found = /^sse_connections_total (\d+)/m.exec(await metrics.text());
    return Number(found?.[1] ?? NaN);
  }

  get log(): string {
    return readFileSync(join(this.#directory, 'log'), 'utf8');
  }
}

/** A token of `user`, as the app's login would sign it. */
export function sign(user: string, lifetimeSeconds: number, secret = SECRET): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const head = part({ alg: 'HS256', typ: 'JWT' });
  const body = part({ sub: user, iat: now, exp: now + lifetimeSeconds });
  return `${head}.${body}.${hmac(`${head}.${body}`, secret)}`;
}

/** The user of a token that is good, else nobody. */
export function userOf(token: string, secret = SECRET): string | null {
  const [head = '', body = '', signature] = token.split('.');
  if (signature !== hmac(`${head}.${body}`, secret)) return null;
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as {
    sub: string;
    exp: number;
  };
  return claims.exp * 1000 > Date.now() ? claims.sub : null;
}

function hmac(text: string, secret: string): string {
  return createHmac('sha256', secret).update(text).digest('base64url');
}
