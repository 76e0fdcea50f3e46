import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Input,
  MAX_FAILURES,
  type State,
  type Step,
  dueAt,
  initial,
  step,
} from '../../src/machine.js';

const HEARTBEAT = 30_000;
const SILENCE = 75_000;
/** When streams are opened, by the gateway's clock: after the row was made. */
const THERE = Date.parse('2026-01-02');
const row = {
  id: 'row',
  type: 'info',
  title: '',
  message: '',
  status: 'unread',
  metadata: null,
  created_at: '2026-01-01T00:00:00Z',
  related_session_id: null,
};

const ended: Input = { type: 'ended' };
const refused = (status: number, retryAfter = 0): Input => ({
  type: 'refused',
  status,
  retryAfter,
});
const connected = (id = 'c1', lifetime = NaN, user = '', heartbeat = NaN): Input => ({
  type: 'event',
  event: { name: 'connected', lifetime, at: THERE, user, heartbeat },
  id,
});
const closing = (reason: string): Input => ({
  type: 'event',
  event: { name: 'closing', reason },
  id: '',
});
const heartbeat: Input = { type: 'event', event: { name: 'heartbeat' }, id: 'c2' };

/** A machine, its clock and its luck: 1 makes every wait its longest. */
class Run {
  state: State;
  now = 1_000_000;
  last: Step;
  constructor(
    cursor = '',
    readonly random = 1,
  ) {
    this.state = initial(cursor, '', HEARTBEAT);
    this.last = { state: this.state, effects: [] };
  }
  take(...inputs: Input[]): this {
    for (const input of inputs) {
      this.last = step(this.state, input, this.now, this.random);
      this.state = this.last.state;
    }
    return this;
  }
  pass(milliseconds: number): this {
    this.now += milliseconds;
    return this.take({ type: 'tick' });
  }
  /** Milliseconds until the machine acts by itself. */
  get due(): number {
    return dueAt(this.state) - this.now;
  }
  get did(): string[] {
    return this.last.effects.map(({ type }) => type);
  }
}

const started = (cursor = '', random = 1) => new Run(cursor, random).take({ type: 'start' });
/** A stream that has been open for long enough to count as one. */
const open = (cursor = '') => started(cursor).take(connected()).pass(10_000);

describe('connecting', () => {
  test('starts by asking for a stream, without a cursor and with any token', () => {
    const run = started();
    expect(run.state.status).toBe('connecting');
    expect(run.last.effects).toEqual([{ type: 'connect', cursor: '', fresh: false }]);
  });

  test('goes on from the cursor it was given', () => {
    expect(started('abc').last.effects).toEqual([{ type: 'connect', cursor: 'abc', fresh: false }]);
  });

  test('what the server has asked of the tab that led before holds', () => {
    const held = new Run().take({ type: 'start', holdUntil: 1_060_000 });
    expect(held.state.status).toBe('waiting');
    expect(held.take({ type: 'wake' }, { type: 'online' }).did).toEqual([]);
    expect(held.pass(60_000).did).toEqual(['connect']);
    const off = new Run().take({ type: 'start', isOff: true });
    expect(off.state).toMatchObject({ status: 'polling', reason: 'off' });
    expect(new Run().take({ type: 'start', holdUntil: 999_999 }).did).toEqual(['connect']);
  });

  test('a stream of somebody else is none, however a UUID is written', () => {
    const id = 'a1b2c3d4-0000-4000-8000-00000000000f';
    const as = (user: string): Run => {
      const run = new Run();
      run.state = initial('c0', user, HEARTBEAT);
      return run.take({ type: 'start' }, connected('c1', NaN, id));
    };
    for (const user of ['', id, id.toUpperCase(), id.replaceAll('-', ''), `{${id}}`]) {
      expect(as(user).state.status).toBe('open');
    }
    for (const user of ['ada', `${id}0`, id.replace('f', 'e')]) {
      const run = as(user);
      expect(run.state).toMatchObject({ status: 'stopped', reason: 'user_changed', cursor: '' });
      expect(run.did).toEqual(['close']);
    }
  });

  test('a second start changes nothing', () => {
    const run = started().take({ type: 'start' });
    expect(run.did).toEqual([]);
  });

  test('is open when the gateway says connected, and has the list fetched', () => {
    const run = started().take(connected());
    expect(run.state.status).toBe('open');
    expect(run.did).toEqual(['refetch']);
  });

  test('does not have the list fetched when it went on from a cursor', () => {
    expect(started('abc').take(connected()).did).toEqual([]);
  });

  test('an answer that does not come within 15 s is a failure', () => {
    const run = started();
    expect(run.due).toBe(15_000);
    expect(run.pass(14_999).state.status).toBe('connecting');
    run.pass(1);
    expect(run.state).toMatchObject({ status: 'waiting', failures: 1 });
    expect(run.did).toEqual(['close']);
  });

  test('events that are not understood do not open it, and keep their cursor', () => {
    const run = started().take({ type: 'event', event: null, id: 'x' });
    expect(run.state).toMatchObject({ status: 'connecting', cursor: 'x' });
  });
});

describe('an open stream', () => {
  test('delivers rows and remembers where it is', () => {
    const run = open().take({
      type: 'event',
      event: { name: 'notification', row },
      id: 'c9',
    });
    expect(run.last.effects).toEqual([
      { type: 'deliver', row, arrival: { live: false }, isNews: true },
    ]);
    expect(run.state.cursor).toBe('c9');
  });

  test('tells what is live, what was missed, and what was there before', () => {
    const told = (run: Run, created_at: string) => {
      const event = { name: 'notification', row: { ...row, created_at } } as const;
      const [effect] = run.take({ type: 'event', event, id: '' }).last.effects;
      return effect?.type === 'deliver' && [effect.arrival.live, effect.isNews];
    };
    const [old, late] = ['2026-01-01T23:59:59Z', '2026-01-02T00:00:01Z'];
    const first = started().take(connected());
    expect(told(first, old)).toEqual([false, false]);
    expect(told(first, late)).toEqual([true, true]);
    expect(told(first, 'no time')).toEqual([true, true]);
    // The database's clock may be late.
    expect(told(first.pass(3_001), old)).toEqual([false, true]);
    const resumed = started('c0').take(connected());
    expect(told(resumed, old)).toEqual([false, true]);
    expect(told(resumed, late)).toEqual([true, true]);
    // After an interruption of less than three minutes, what was missed still counts as live.
    const back = open().take(ended).pass(1_000).take(connected());
    expect(told(back, old)).toEqual([true, true]);
    const asleep = open();
    asleep.now += 200_000;
    expect(told(asleep.take({ type: 'wake' }, connected()), old)).toEqual([false, true]);
  });

  test('an event without an id leaves the cursor as it was', () => {
    const run = open().take({ type: 'event', event: { name: 'heartbeat' }, id: '' });
    expect(run.state.cursor).toBe('c1');
  });

  test('resync has the list fetched and the stream goes on', () => {
    const run = open().take({
      type: 'event',
      event: { name: 'resync', reason: 'too_far_back' },
      id: 'c5',
    });
    expect(run.did).toEqual(['refetch']);
    expect(run.state).toMatchObject({ status: 'open', cursor: 'c5' });
  });

  test('two and a half heartbeats of silence are its end, and not a moment less', () => {
    const run = open();
    run.take(heartbeat);
    expect(run.due).toBe(SILENCE);
    run.pass(SILENCE - 1);
    expect(run.state.status).toBe('open');
    run.pass(1);
    expect(run.state).toMatchObject({ status: 'waiting', failures: 1, cursor: 'c2' });
    expect(run.did).toEqual(['close']);
  });

  test.each([
    ['a heartbeat', heartbeat],
    ['a row', { type: 'event', event: { name: 'notification', row }, id: '' }],
    ['an event of a later version', { type: 'event', event: null, id: '' }],
  ] as [string, Input][])('%s is a sign of life', (_, input) => {
    const run = open();
    run.pass(SILENCE - 10_001).take(input);
    expect(run.due).toBe(SILENCE);
  });

  test('that is cut is asked for again after the first wait, from its cursor', () => {
    const run = open().take(ended);
    expect(run.state).toMatchObject({ status: 'waiting', failures: 1 });
    expect(run.due).toBe(1_000);
    run.pass(1_000);
    expect(run.last.effects).toEqual([{ type: 'connect', cursor: 'c1', fresh: false }]);
    expect(run.take(connected('c2')).did).toEqual([]);
  });

  test('that held for five seconds makes the waits short again; a shorter one does not', () => {
    const failing = () => started().take(ended).pass(1_000).take(ended).pass(2_000);
    const short = failing().take(connected()).pass(4_999).take(ended);
    expect(short.state.failures).toBe(1);
    expect(short.due).toBe(4_000);
    const long = failing().take(connected()).pass(5_000).take(ended);
    expect(long.state.failures).toBe(1);
    expect(long.due).toBe(1_000);
  });

  test('that is cut again and again is asked for every half minute, and not given up', () => {
    const run = started();
    const waits: number[] = [];
    for (let cut = 0; cut < 15; cut += 1) {
      run.take(connected(), ended);
      waits.push(run.due);
      run.pass(run.due);
    }
    expect(waits.slice(0, 6)).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
    expect(waits.at(-1)).toBe(30_000);
    expect(run.state.status).toBe('connecting');
  });
});

describe('backoff', () => {
  test('waits 1, 2, 4, 8, 16, 30, 30, 30, 30 s and gives up at the tenth failure', () => {
    const run = started();
    const waits: number[] = [];
    while (run.take(ended).state.status === 'waiting' && waits.length < 20) {
      waits.push(run.due);
      run.pass(run.due - 1);
      expect(run.state.status).toBe('waiting');
      run.pass(1);
      expect(run.state.status).toBe('connecting');
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 30, 30, 30, 30].map((seconds) => seconds * 1_000));
    expect(run.state).toMatchObject({ status: 'polling', reason: 'failures', failures: 10 });
    expect(run.did).toEqual(['close']);
  });

  test('that is given up is tried again every three to five minutes, a day long', () => {
    for (const [random, wait] of [
      [1, 180_000],
      [0, 300_000],
    ] as const) {
      const run = started('', random);
      for (run.take(ended); run.state.status === 'waiting'; run.take(ended)) run.pass(30_000);
      let tries = 0;
      for (const end = run.now + 86_400_000; run.now < end; tries += 1) {
        expect(run.due).toBe(wait);
        expect(run.pass(wait).did).toEqual(['connect']);
        run.take(ended);
        expect(run.state).toMatchObject({ status: 'polling', reason: 'failures', failures: 10 });
      }
      expect(tries).toBe(86_400_000 / wait);
      expect(run.pass(wait).take(connected()).state).toMatchObject({ status: 'open', failures: 0 });
    }
  });

  test('jitter takes away at most half', () => {
    expect(started('', 0).take(ended).due).toBe(500);
    expect(started('', 0.5).take(ended).due).toBe(750);
  });

  test('a longer retry: of the server takes its place, a shorter one does not', () => {
    const longer = started().take({ type: 'retryField', milliseconds: 60_000 }, ended);
    expect(longer.due).toBe(60_000);
    const shorter = started().take({ type: 'retryField', milliseconds: 10 }, ended);
    expect(shorter.due).toBe(1_000);
  });

  test('no server can silence a page for more than an hour', () => {
    const run = started().take({ type: 'retryField', milliseconds: 1e12 }, ended);
    expect(run.due).toBe(3_600_000);
    expect(started().take(refused(503, 1e12)).due).toBe(3_600_000);
  });
});

describe('an answer that is no stream', () => {
  test.each([500, 502, 503, 504, 408, 429, 200, 302])('%d is a failure', (status) => {
    const run = started().take(refused(status));
    expect(run.state).toMatchObject({ status: 'waiting', failures: 1 });
    expect(run.due).toBe(1_000);
  });

  test.each([429, 503])(
    '%d waits for its Retry-After, which nobody cuts short but retry()',
    (s) => {
      const run = started().take(refused(s, 20_000));
      expect(run.due).toBe(20_000);
      expect(run.take({ type: 'wake' }).state.status).toBe('waiting');
      expect(run.take({ type: 'online' }).state.status).toBe('waiting');
      expect(run.take({ type: 'retry' }).state).toMatchObject({
        status: 'connecting',
        failures: 0,
      });
    },
  );

  test('204 is the feature flag: polling, until retry()', () => {
    const run = started().take(refused(204));
    expect(run.state).toMatchObject({ status: 'polling', reason: 'off' });
    expect(run.due).toBe(Infinity);
    expect(run.take({ type: 'wake' }, { type: 'online' }).state.status).toBe('polling');
    expect(run.take({ type: 'retry' }).did).toEqual(['connect']);
  });

  test.each([400, 403, 404, 405, 410])('a single %d is a failure like others', (status) => {
    const run = started().take(refused(status));
    expect(run.state).toMatchObject({ status: 'waiting', failures: 1 });
    expect(run.did).toEqual(['close']);
    expect(run.pass(1_000).take(connected()).state.status).toBe('open');
  });

  test('that persists is said to the developer once, and tried now and then all the same', () => {
    const run = started();
    const reports: number[] = [];
    for (let attempt = 1; attempt <= 14; attempt += 1) {
      run.take(refused(404));
      if (run.did.includes('report')) reports.push(attempt);
      if (attempt < 10) expect(run.state.status).toBe('waiting');
      else expect(run.state).toMatchObject({ status: 'polling', reason: 'refused' });
      run.pass(run.due);
    }
    expect(reports).toEqual([3]);
    expect(run.take(connected()).state).toMatchObject({ status: 'open', refusals: 0 });
  });

  test('a mistake that was none: other failures in between begin its count anew', () => {
    const run = started();
    for (const input of [refused(404), refused(404), refused(502), refused(404), ended]) {
      run.take(input).pass(30_000);
    }
    expect(run.take(refused(404)).did).toEqual(['close']);
  });
});

describe('tokens', () => {
  test('a 401 asks for a fresh token at once', () => {
    const run = started().take(refused(401));
    expect(run.last.effects).toEqual([{ type: 'connect', cursor: '', fresh: true }]);
  });

  test('a 401 to a fresh token is an authentication error and the end', () => {
    const run = started().take(refused(401), refused(401));
    expect(run.state).toMatchObject({ status: 'stopped', reason: 'authentication' });
    expect(run.did).toEqual(['close', 'report']);
    expect(run.due).toBe(Infinity);
    expect(run.take({ type: 'wake' }, { type: 'online' }, { type: 'tick' }).did).toEqual([]);
  });

  test('a failure in between does not make the token less fresh', () => {
    const run = started().take(refused(401), ended).pass(1_000).take(refused(401));
    expect(run.state.reason).toBe('authentication');
  });

  test('a token that was let in may be refused again later', () => {
    const run = started().take(refused(401), connected()).pass(10_000).take(ended).pass(1_000);
    expect(run.take(refused(401)).last.effects).toEqual([
      { type: 'connect', cursor: 'c1', fresh: true },
    ]);
  });

  test('nobody logged in is an authentication error', () => {
    const run = started().take({ type: 'noToken' });
    expect(run.state).toMatchObject({ status: 'stopped', reason: 'authentication' });
  });

  test('is renewed 30 s before its end', () => {
    const run = started().take(connected('c1', 3_600_000));
    for (let beat = 0; beat < 119; beat += 1) run.pass(30_000).take(heartbeat);
    expect(run.state.status).toBe('connecting');
    expect(run.now - 1_000_000).toBe(3_570_000);
    expect(run.state.fresh).toBe(true);
  });

  test('is renewed a tenth of its life before its end where that is less', () => {
    const run = started().take(connected('c1', 60_000));
    run.pass(53_999);
    expect(run.state.status).toBe('open');
    run.pass(1);
    expect(run.last.effects).toEqual([{ type: 'connect', cursor: 'c1', fresh: true }]);
  });

  test('for moments only is not renewed early', () => {
    expect(started().take(connected('c1', 9_999)).due).toBe(SILENCE);
  });

  test('that is the same after every renewal is not asked for without end', () => {
    const run = started();
    let asked = 0;
    for (let left = 3_600_000; left > 0;) {
      run.take(connected('c1', left));
      const renewal = run.state.renewAt - run.now;
      if (renewal === Infinity) break;
      left -= renewal;
      run.now += renewal;
      run.take({ type: 'tick' });
      asked += 1;
    }
    expect(asked).toBeLessThan(4);
  });
});

describe('closing', () => {
  test.each(['shutdown', 'slow_consumer', 'of a later version'])(
    '%s: comes back after the retry: that came with it, and not sooner',
    (reason) => {
      const run = open().take({ type: 'retryField', milliseconds: 1_700 }, closing(reason));
      expect(run.state.status).toBe('waiting');
      run.take(ended);
      expect(run.state).toMatchObject({ status: 'waiting', failures: 0 });
      expect(run.due).toBe(1_700);
      expect(run.take({ type: 'wake' }, { type: 'online' }).state.status).toBe('waiting');
      run.pass(1_700);
      expect(run.last.effects).toEqual([{ type: 'connect', cursor: 'c1', fresh: false }]);
    },
  );

  test('without a retry: comes back within half a second', () => {
    expect(open().take(closing('shutdown'), ended).due).toBe(500);
  });

  test.each(['full', 'too_many_streams', 'rate_limited', 'starting'])(
    'the soft refusal %s is a failure that waits for its retry:',
    (reason) => {
      const retry: Input = { type: 'retryField', milliseconds: 1_700 };
      const run = started().take(retry, closing(reason), ended);
      expect(run.state).toMatchObject({ status: 'waiting', failures: 1 });
      expect(run.due).toBe(1_700);
      run.pass(1_700).take(retry, closing(reason));
      expect(run.did).toEqual(['close']);
      expect(run.due).toBe(2_000);
    },
  );

  test('soft refusals of a browser that reconnects by itself are backed off from as well', () => {
    const run = open().take(closing('shutdown')).pass(1_000).take(closing('starting'));
    expect(run.state).toMatchObject({ status: 'waiting', failures: 1 });
    expect(run.did).toEqual([]);
    run.pass(1_000).take(closing('starting'));
    expect(run.state).toMatchObject({ status: 'waiting', failures: 2 });
    expect(run.did).toEqual(['close']);
    expect(run.due).toBe(2_000);
    run.pass(2_000).take(closing('starting'));
    expect(run.due).toBe(4_000);
  });

  test('ten soft refusals in a row end streaming', () => {
    const run = started();
    for (let refusal = 0; refusal < MAX_FAILURES; refusal += 1) {
      expect(run.state.status).toBe('connecting');
      run.take(closing('full'));
      // Where it was closed already its end is not heard.
      if (!run.did.includes('close')) run.take(ended);
      run.pass(30_000);
    }
    expect(run.state).toMatchObject({ status: 'polling', reason: 'failures' });
  });

  test('a browser that reconnects by itself is left alone for a minute', () => {
    const run = open().take(closing('shutdown'));
    expect(run.did).toEqual([]);
    expect(run.due).toBe(60_000);
    run.pass(3_000).take(connected('c7'));
    expect(run.state).toMatchObject({ status: 'open', failures: 0, cursor: 'c7' });
    expect(run.did).toEqual([]);
  });

  test('when the browser does not manage, the backoff takes over', () => {
    const run = open().take(closing('shutdown')).pass(3_000).take(ended);
    expect(run.due).toBe(500);
    const silent = open().take(closing('shutdown')).pass(60_000);
    expect(silent.did).toEqual(['connect']);
  });

  test('token_expired asks for a fresh token at once', () => {
    const run = open().take({ type: 'retryField', milliseconds: 1_700 }, closing('token_expired'));
    expect(run.last.effects).toEqual([{ type: 'connect', cursor: 'c1', fresh: true }]);
  });

  test('tokens that expire as soon as they are used are asked for ever more slowly', () => {
    const run = started();
    const waits: number[] = [];
    for (let life = 0; life < 3; life += 1) {
      run.take(connected(), closing('token_expired'));
      waits.push(run.due);
      run.pass(run.due);
      expect(run.state.fresh).toBe(true);
    }
    expect(waits).toEqual([1_000, 2_000, 4_000]);
  });

  test('revoked waits for another second to begin, then asks for a fresh token once', () => {
    const run = open().take(closing('revoked'));
    expect(run.state.status).toBe('waiting');
    expect(run.due).toBe(1_000);
    run.pass(1_000);
    expect(run.last.effects).toEqual([{ type: 'connect', cursor: 'c1', fresh: true }]);
    expect(run.take(refused(401)).state.reason).toBe('authentication');
  });

  test('tokens that are revoked as soon as they are used count as failures', () => {
    expect(started().take(connected(), closing('revoked')).state.failures).toBe(1);
  });
});

describe('waking', () => {
  test.each(['online', 'wake'] as const)('%s ends a wait', (type) => {
    const run = open().take(ended, { type });
    expect(run.last.effects).toEqual([{ type: 'connect', cursor: 'c1', fresh: false }]);
  });

  test.each(['online', 'wake', 'retry'] as const)('%s streams again after ten failures', (type) => {
    const run = started();
    for (let failure = 0; failure < MAX_FAILURES; failure += 1) run.take(ended).pass(30_000);
    expect(run.state.status).toBe('polling');
    run.take({ type });
    expect(run.state).toMatchObject({ status: 'connecting', failures: 0, reason: null });
  });

  test('online replaces an open stream, whose peer may be gone', () => {
    expect(open().take({ type: 'online' }).did).toEqual(['connect']);
  });

  test('wake leaves a live stream alone and replaces one that slept too long', () => {
    const run = open();
    expect(run.take({ type: 'wake' }).did).toEqual([]);
    run.now += SILENCE + 1;
    expect(run.take({ type: 'wake' }).did).toEqual(['connect']);
  });

  test('an attempt under way is left alone', () => {
    const run = started().take({ type: 'wake' }, { type: 'online' }, { type: 'retry' });
    expect(run.did).toEqual([]);
  });

  test('retry() leaves an open stream alone', () => {
    expect(open().take({ type: 'retry' }).did).toEqual([]);
  });
});

describe('stopping', () => {
  test('closes, and nothing wakes it but start', () => {
    const run = open().take({ type: 'stop' });
    expect(run.did).toEqual(['close']);
    expect(run.due).toBe(Infinity);
    run.take({ type: 'wake' }, { type: 'online' }, { type: 'retry' }, { type: 'tick' }, ended);
    expect(run.state).toMatchObject({ status: 'stopped', reason: null });
    run.take({ type: 'start' });
    expect(run.last.effects).toEqual([{ type: 'connect', cursor: 'c1', fresh: false }]);
  });
});

describe('whatever happens', () => {
  const inputs: fc.Arbitrary<Input> = fc.oneof(
    fc.constantFrom<Input>(
      { type: 'start' },
      { type: 'stop' },
      { type: 'retry' },
      { type: 'online' },
      { type: 'wake' },
      { type: 'tick' },
      ended,
      { type: 'noToken' },
      connected(),
      connected('', 20_000),
      heartbeat,
      closing('shutdown'),
      closing('full'),
      closing('token_expired'),
      closing('revoked'),
      { type: 'retryField', milliseconds: 1_500 },
    ),
    fc.constantFrom(200, 204, 400, 401, 403, 404, 429, 500, 503).map((status) => refused(status)),
  );

  test('it is resting for a reason, or something is due', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            inputs,
            fc.integer({ min: 0, max: 100_000 }),
            fc.double({ min: 0, max: 0.99, noNaN: true }),
          ),
        ),
        (history) => {
          let state = initial('', '', HEARTBEAT);
          let now = 0;
          let isOpenOrAsked = false;
          for (const [input, later, random] of history) {
            now += later;
            const isOfStream = ['event', 'ended', 'refused', 'retryField', 'noToken'].includes(
              input.type,
            );
            // The shell lets nothing through of a stream that was closed.
            if (isOfStream && !isOpenOrAsked) continue;
            const next = step(state, input, now, random);
            ({ state } = next);
            for (const { type } of next.effects) {
              if (type === 'connect') isOpenOrAsked = true;
              if (type === 'close') isOpenOrAsked = false;
            }
            const rests = state.status === 'stopped' || state.reason === 'off';
            expect(dueAt(state) === Infinity).toBe(rests);
            if (rests || state.status === 'polling') expect(isOpenOrAsked).toBe(false);
            if (state.status === 'connecting' || state.status === 'open')
              expect(isOpenOrAsked).toBe(true);
            if (state.status === 'polling') expect(state.reason).not.toBeNull();
            expect(state.failures).toBeLessThanOrEqual(MAX_FAILURES);
          }
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test('no two attempts are closer than half a second, but for a token, a wake-up or a retry()', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(ended, refused(503), closing('full'), connected('')), {
          maxLength: 60,
        }),
        (history) => {
          const run = started('', 0);
          let connects = 0;
          const begin = run.now;
          for (const input of history) {
            run.take(input);
            if (run.state.status === 'waiting') {
              run.pass(run.due);
              connects += 1;
            }
          }
          expect(run.now - begin).toBeGreaterThanOrEqual(connects * 500);
        },
      ),
    );
  });
});
