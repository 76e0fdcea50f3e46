import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { COOKIE } from './gateway.js';
import { faultsBinary } from './prerequisites.js';

/** Where everything is that is going to break. */
interface Stage {
  /** The gateways' streams, as their clients reach them. */
  readonly streams: readonly string[];
  /** The database as an application reaches it, whichever server it is by then. */
  readonly database: string;
  readonly secret: string;
}

interface Fault {
  readonly fault: string;
  readonly detail: string;
  readonly number: number;
}

/** What `notify-faults --tell` says, a line each. */
type Line =
  | { readonly stage: Stage }
  | { readonly began: Fault }
  | { readonly ended: Fault }
  | { readonly over: object };

/**
 * The fault test of the whole repository, with a page of ours beside its own: two
 * gateways, a PostgreSQL with a standby, the network between them, and what goes
 * wrong with each.
 */
export class Faults {
  readonly #process: ChildProcess;
  readonly #exit: Promise<unknown[]>;
  #stage: Stage | null = null;
  #waiting: (() => void)[] = [];
  /** How often each kind of fault has ended. */
  readonly ended: Record<string, number> = {};
  /** Those under way, and what was the last; for the one who has to explain a failure. */
  readonly underWay = new Map<number, string>();
  /** Everything is whole again, and stays so. */
  isOver = false;
  /** What it found out about its own pages. */
  readonly report: string[] = [];

  private constructor(flags: readonly string[]) {
    const process = spawn(faultsBinary, ['--tell', ...flags], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#process = process;
    this.#exit = once(process, 'exit');
    createInterface({ input: process.stdout }).on('line', (line) => {
      if (line.startsWith('{')) this.#hear(JSON.parse(line) as Line);
      else this.report.push(line);
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const wake of waiting) wake();
    });
  }

  /** Starts it and waits until all is ready; `origin` is where the pages come from. */
  static async start(origin: string, ...flags: string[]): Promise<Faults> {
    const gateway = [`--cors-origins=${origin}`, `--jwt-cookie=${COOKIE}`];
    const faults = new Faults([...flags, ...gateway.map((flag) => `--gateway-flag=${flag}`)]);
    while (faults.#stage === null) await faults.#next();
    return faults;
  }

  get stage(): Stage {
    if (this.#stage === null) throw new Error('the stage is not set');
    return this.#stage;
  }

  /** Connections as the application's own. */
  pool(): pg.Pool {
    const pool = new pg.Pool({
      connectionString: this.stage.database,
      max: 8,
      connectionTimeoutMillis: 5_000,
      query_timeout: 20_000,
    });
    pool.on('error', () => undefined);
    // One that is lost while it is used fails its query, which is enough.
    pool.on('connect', (client) => client.on('error', () => undefined));
    return pool;
  }

  /** Waits until so many faults are over, or all of them. */
  async until(count: number): Promise<void> {
    while (this.count < count && !this.isOver) await this.#next();
  }

  /** The next thing it says. */
  async #next(): Promise<void> {
    const spoken = new Promise<void>((resolve) => this.#waiting.push(resolve));
    const ended = this.#exit.then(([code]) => {
      throw new Error(`notify-faults has ended with ${String(code)}`);
    });
    await Promise.race([spoken, ended]);
  }

  /** How many faults are over. */
  get count(): number {
    return Object.values(this.ended).reduce((sum, count) => sum + count, 0);
  }

  /** Lets it judge its own pages and take everything away; says whether it was content. */
  async dismiss(): Promise<boolean> {
    this.#process.stdin?.end();
    const [code] = await this.#exit;
    return code === 0;
  }

  #hear(line: Line): void {
    if ('stage' in line) {
      this.#stage = line.stage;
    } else if ('began' in line) {
      this.underWay.set(line.began.number, `${line.began.fault} ${line.began.detail}`);
    } else if ('ended' in line) {
      this.underWay.delete(line.ended.number);
      this.ended[line.ended.fault] = (this.ended[line.ended.fault] ?? 0) + 1;
    } else {
      this.isOver = true;
    }
  }
}
