/**
 * When to connect, how long to wait, when to give up: everything the client
 * decides about its stream, and nothing it does.
 *
 * {@link step} takes what happened and gives what is to be done. It knows no
 * clock, no network and no chance but what it is handed, so every path through
 * it is tested without a browser. `connection.ts` does what it says.
 *
 *                    start            connected
 *       (stopped) ──────────▶ connecting ───────▶ open
 *           ▲                  ▲   │   ▲            │
 *           │ 401 after a      │   │   │ wait over  │ closing, cut, silent
 *           │ fresh token      │   ▼   │            │
 *           └───────────────── │  waiting ◀─────────┘
 *                              │   │
 *                 online, wake,│   │ ten failures in a row, 204
 *            retry(), every few│   ▼
 *                      minutes └─ polling
 */
import type { ProblemDocument } from './errors.js';
import type { Arrival, NotificationRow } from './notification.js';
import type { StreamEvent } from './protocol.js';
import { isSameUser } from './user.js';

/** What the stream is doing. */
export type Status =
  /** Asking for a stream. */
  | 'connecting'
  /** Rows arrive as they are committed. */
  | 'open'
  /** Between two attempts. */
  | 'waiting'
  /** Streaming is off or given up; the app's REST API is polled. */
  | 'polling'
  /** Nothing happens until `start()`, or, after an authentication error, `retry()`. */
  | 'stopped';

/** Why a `polling` or `stopped` client is not streaming. */
export type Reason =
  /** `stream: false`; where `status` is `stopped`, `enabled: false`: nobody is logged in yet. */
  | 'disabled'
  /** The gateway's feature flag is off (204). */
  | 'off'
  /** Ten attempts in a row failed (`maxReconnectAttempts`); another is made every few minutes. */
  | 'failures'
  /** The same, and the last answers say that the set-up is wrong, such as 403 or 404. */
  | 'refused'
  /** Not let in, even with a fresh token, or nobody is logged in. */
  | 'authentication'
  /** The stream was not the user's: somebody else has logged in. */
  | 'user_changed';

/** What happened. */
export type Input =
  | { readonly type: 'stop' | 'retry' | 'online' }
  /** Somebody looks at the page, or the app's API answers again after it did not. */
  | { readonly type: 'wake' }
  /** Not before `holdUntil`, as the server has asked of the tab that led before; or not at all. */
  | { readonly type: 'start'; readonly holdUntil?: number; readonly isOff?: boolean }
  /** Time has passed; due at {@link dueAt}. */
  | { readonly type: 'tick' }
  /** An event of the stream; `event` is null for one that is not understood. */
  | { readonly type: 'event'; readonly event: StreamEvent | null; readonly id: string }
  /** A `retry:` field. */
  | { readonly type: 'retryField'; readonly milliseconds: number }
  /** No answer, or the end of one. */
  | { readonly type: 'ended' }
  /** An answer that is no stream. */
  | {
      readonly type: 'refused';
      readonly status: number;
      /** Milliseconds. */
      readonly retryAfter: number;
      readonly problem?: ProblemDocument | undefined;
    }
  /** The app has no token to give: nobody is logged in. */
  | { readonly type: 'noToken' };

/** What is to be done. */
export type Effect =
  /** Closes what is open and asks for a stream; `fresh`: with a token asked for anew. */
  | { readonly type: 'connect'; readonly cursor: string; readonly fresh: boolean }
  | { readonly type: 'close' }
  /** A row is another now, or (`null`) gone. */
  | { readonly type: 'change'; readonly id: string; readonly row: NotificationRow | null }
  | {
      readonly type: 'deliver';
      readonly row: NotificationRow;
      readonly arrival: Arrival;
      /** Whether it is to be announced. */
      readonly isNews: boolean;
    }
  /** The list has to be fetched: the stream cannot tell what was missed, and why. */
  | { readonly type: 'refetch'; readonly reason: string }
  /** For the developer: the server's answer shows a mistake in the set-up, or in a token. */
  | {
      readonly type: 'report';
      readonly status: number;
      readonly problem: ProblemDocument | undefined;
    };

/** All the machine remembers. Times are in milliseconds, `Infinity` for never. */
export interface State {
  readonly status: Status;
  readonly reason: Reason | null;
  /** The `id:` of the last event: where the next stream goes on. */
  readonly cursor: string;
  /** Whose the streams are, as the gateway has said; empty before it has. */
  readonly user: string;
  /** Whether the stream was, or will be, asked to go on from a cursor. */
  readonly isResumed: boolean;
  /** Attempts in a row that brought no stream; counted up to `maxFailures`. */
  readonly failures: number;
  /** After so many the client polls. */
  readonly maxFailures: number;
  /** Answers in a row that mean a mistake in the set-up, as the last ones were. */
  readonly refusals: number;
  /** How far the waits have grown. A stream that does not hold leaves them as long as they are. */
  readonly waits: number;
  /** The token has to be, or was, asked for anew: a 401 is then final. */
  readonly fresh: boolean;
  /**
   * While `waiting`, when to connect; while `connecting` and `open`, when to take
   * the stream for dead.
   */
  readonly deadline: number;
  /** When the token is to be renewed. */
  readonly renewAt: number;
  /** The server asked for silence until then; only `retry()` may break it. */
  readonly holdUntil: number;
  /** When a stream was heard last, this or the one before. */
  readonly heardAt: number;
  /** When this stream said `connected`. */
  readonly openedAt: number;
  /** The same by the gateway's clock, where older rows are no longer live; NaN: none are. */
  readonly openedAtThere: number;
  /** The server's `retry:`. */
  readonly retry: number;
  /** Whether the stream has said `closing`, and not ended yet. */
  readonly isClosing: boolean;
  /** Silence that means a dead stream. */
  readonly silence: number;
}

/** The state after an input, and what is to be done about it. */
export interface Step {
  readonly state: State;
  readonly effects: readonly Effect[];
}

/** After a shorter interruption, what was missed still counts as live. */
export const LIVE_MS = 3 * 60 * 1_000;
/** After so many failures in a row, unless the app says another number, the app's API is polled, and a stream tried only now and then. */
export const MAX_FAILURES = 10;
/** Time between two such tries, or up to two fifths less. */
const PROBE_MS = 5 * 60 * 1_000;
/** One such answer may be a proxy's while a container restarts; so many in a row are told to the developer. */
const MISTAKE = 3;
/** The first wait; each is twice the last, up to the longest. */
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;
/** No server may silence a page for longer than this, by `retry:` or `Retry-After`. */
const LONGEST_HOLD_MS = 60 * 60 * 1_000;
/** An answer takes milliseconds; a hanging one may mean that six other streams hold the host. */
const ANSWER_TIMEOUT_MS = 15_000;
/** A stream has to last this long for the waits to be short again: else one that is cut at once is asked for every second, for ever. */
const STEADY_MS = 5_000;
/**
 * After `closing` the end comes at once; but a native `EventSource` reconnects by
 * itself, after a `retry:` that scripts do not see, and is left alone for so long.
 */
const COMES_BACK_MS = 60_000;
/** A token of the same second as its revocation is refused: the clock of `iat` has no fractions. */
const REVOKED_WAIT_MS = 1_000;
/** A token is renewed this much before its end, or a tenth of its life where that is less. */
const RENEW_MARGIN_MS = 30_000;
/** Tokens for moments are not renewed early, which would be without end. */
const SHORTEST_RENEWED_MS = 10_000;
/** A stream without a cursor begins with what was committed just before it; by then that has come. */
const OVERLAP_MS = 3_000;
/** Heartbeats that may fail to come, and half of one for the network. */
const SILENT_HEARTBEATS = 2.5;

/**
 * A machine that has not been started: where it is to go on, for whom, and when a stream was
 * heard, if that is known.
 */
export function initial(
  cursor: string,
  user: string,
  heartbeatMs: number,
  heardAt = -Infinity,
): State {
  return {
    status: 'stopped',
    reason: null,
    cursor,
    user,
    isResumed: false,
    failures: 0,
    maxFailures: MAX_FAILURES,
    refusals: 0,
    waits: 0,
    fresh: false,
    deadline: Infinity,
    renewAt: Infinity,
    holdUntil: 0,
    heardAt,
    openedAt: Infinity,
    openedAtThere: NaN,
    retry: 0,
    isClosing: false,
    silence: heartbeatMs * SILENT_HEARTBEATS,
  };
}

/** When the machine wants its next `tick`. */
export function dueAt({ deadline, renewAt }: State): number {
  return Math.min(deadline, renewAt);
}

/**
 * One step. `now` is in milliseconds from anywhere; `random` is in [0, 1).
 */
export function step(state: State, input: Input, now: number, random: number): Step {
  const { status } = state;
  if (input.type === 'stop') return rest(state, 'stopped', null);
  if (status === 'stopped') return input.type === 'start' ? start(state, input, now) : to(state);

  switch (input.type) {
    case 'retry':
      if (status === 'connecting' || status === 'open') break;
      return renew(state, now);
    case 'online':
      // A stream from before the network went away has no way to tell that its
      // peer is gone.
      return status === 'open' ? connect(state, now) : wake(state, now);
    case 'wake':
      return wake(state, now);
    case 'tick':
      return tick(state, now, random);
    case 'retryField':
      return to({ ...state, retry: Math.min(input.milliseconds, LONGEST_HOLD_MS) });
    case 'event':
      return heard(state, input.event, input.id, now, random);
    case 'ended':
      return ended(state, now, random);
    case 'refused':
      return refused(state, input, now, random);
    case 'noToken':
      return rest(state, 'stopped', 'authentication');
  }
  return to(state);
}

function start(
  state: State,
  { holdUntil = 0, isOff = false }: Extract<Input, { type: 'start' }>,
  now: number,
): Step {
  if (isOff) return rest(state, 'polling', 'off');
  if (holdUntil <= now) return renew(state, now);
  return until(holdUntil, rest({ ...state, holdUntil }, 'waiting', null));
}

function heard(
  before: State,
  event: StreamEvent | null,
  id: string,
  now: number,
  random: number,
): Step {
  const deadline = before.status === 'open' ? now + before.silence : before.deadline;
  // When it was heard before this is what `connected` has to know.
  const heardAt = event?.name === 'connected' ? before.heardAt : now;
  const state = { ...before, deadline, heardAt, cursor: id || before.cursor };
  switch (event?.name) {
    case 'connected':
      return connected(state, event, now);
    case 'notification':
      return to(state, deliver(state, event.row, now));
    case 'changed':
      return to(state, { type: 'change', id: event.id, row: event.row });
    case 'resync':
      return to(state, { type: 'refetch', reason: event.reason });
    case 'closing':
      return closing(state, event.reason, now, random);
  }
  return to(state);
}

function connected(
  before: State,
  { lifetime, at, user, heartbeat }: Extract<StreamEvent, { name: 'connected' }>,
  now: number,
): Step {
  if (user !== '' && before.user !== '' && !isSameUser(user, before.user)) {
    // Its cursor means somebody else's rows.
    return rest({ ...before, cursor: '', user: '' }, 'stopped', 'user_changed');
  }
  const silence = heartbeat > 0 ? heartbeat * SILENT_HEARTBEATS : before.silence;
  const state = { ...before, user: user || before.user, silence };
  const early = Math.min(RENEW_MARGIN_MS, lifetime / 10);
  const open: State = {
    ...state,
    status: 'open',
    failures: 0,
    refusals: 0,
    fresh: false,
    deadline: now + state.silence,
    renewAt: lifetime >= SHORTEST_RENEWED_MS ? now + lifetime - early : Infinity,
    heardAt: now,
    openedAt: now,
    // A stream that is back soon counts as never interrupted.
    openedAtThere: state.isResumed && now - state.heardAt < LIVE_MS ? NaN : at,
    isClosing: false,
  };
  // Without a cursor the gateway tells what comes from now on; what was before
  // is in the list.
  return state.isResumed ? to(open) : to(open, { type: 'refetch', reason: 'connected' });
}

function deliver(state: State, row: NotificationRow, now: number): Effect {
  // The database's clock need not agree with the gateway's: where it is late, a row of the first
  // seconds passes for an older one.
  const live = !(Date.parse(row.created_at) < state.openedAtThere);
  const isNews = live || state.isResumed || now - state.openedAt > OVERLAP_MS;
  return { type: 'deliver', row, arrival: { live }, isNews };
}

function closing(state: State, reason: string, now: number, random: number): Step {
  const isHeld = isSteady(state, now);
  const fresh = { ...state, fresh: true };
  if (reason === 'token_expired') return isHeld ? renew(fresh, now) : fail(fresh, now, random);
  if (reason === 'revoked') {
    return fail(fresh, now, random, Math.max(state.retry, REVOKED_WAIT_MS));
  }
  // The second goodbye in a row to a stream that did not hold: a native
  // `EventSource`, left alone, would use up all its attempts within seconds.
  if (!isHeld && state.waits > 0) return fail(state, now, random, state.retry);
  // A stream that held is no failure. A soft refusal is one, and so is a gateway
  // that goes down as soon as it is up.
  const failures = isHeld ? 0 : 1;
  return to({
    ...idle(state),
    status: 'waiting',
    failures,
    waits: failures,
    deadline: now + COMES_BACK_MS,
    holdUntil: now + COMES_BACK_MS,
    isClosing: true,
  });
}

function ended(state: State, now: number, random: number): Step {
  const other = { ...state, refusals: 0 };
  return state.isClosing ? pause(other, now, random, state.retry) : fail(other, now, random);
}

function refused(
  state: State,
  { status, retryAfter, problem }: Extract<Input, { type: 'refused' }>,
  now: number,
  random: number,
): Step {
  if (status === 204) return rest(state, 'polling', 'off');
  const report: Effect = { type: 'report', status, problem };
  if (status === 401) {
    return state.fresh
      ? rest(state, 'stopped', 'authentication', report)
      : connect({ ...state, fresh: true }, now);
  }
  // Time mends these. Anything else, a page of HTML with 200 included, is not the gateway.
  const isPassing = status >= 500 || status === 408 || status === 429;
  const refusals = isPassing ? 0 : state.refusals + 1;
  const failed = fail({ ...state, refusals }, now, random, Math.min(retryAfter, LONGEST_HOLD_MS));
  if (refusals !== MISTAKE) return failed;
  return to(failed.state, ...failed.effects, report);
}

function tick(state: State, now: number, random: number): Step {
  if (now < dueAt(state)) return to(state);
  if (isResting(state)) return connect(state, now);
  if (now >= state.deadline) return ended(state, now, random);
  return connect({ ...state, fresh: true }, now);
}

/** The network is back, or somebody looks at the page. */
function wake(state: State, now: number): Step {
  const { status, deadline, holdUntil } = state;
  // A suspended page's timers slept as well.
  if (status === 'open') return now > deadline ? connect(state, now) : to(state);
  if (now < holdUntil || !isResting(state)) return to(state);
  return status === 'waiting' ? connect(state, now) : renew(state, now);
}

/** Whether the next attempt is to come by itself. */
function isResting({ status, reason }: State): boolean {
  return status === 'waiting' || reason === 'failures' || reason === 'refused';
}

/** Connects as if nothing had failed before. */
function renew(state: State, now: number): Step {
  return connect({ ...state, failures: 0, waits: 0 }, now);
}

function connect(state: State, now: number): Step {
  const { cursor, fresh } = state;
  const connecting: State = {
    ...idle(state),
    status: 'connecting',
    reason: null,
    deadline: now + ANSWER_TIMEOUT_MS,
  };
  return to(connecting, { type: 'connect', cursor, fresh });
}

/** Counts a failure; `hold` is how long the server asked to be left alone. */
function fail(state: State, now: number, random: number, hold = 0): Step {
  const { maxFailures } = state;
  const failures = Math.min(state.failures + 1, maxFailures);
  const waits = (isSteady(state, now) ? 0 : state.waits) + 1;
  if (failures < maxFailures) return pause({ ...state, failures, waits }, now, random, hold);
  const reason = state.refusals < MISTAKE ? 'failures' : 'refused';
  const wait = Math.max(hold, state.retry, PROBE_MS * (1 - (2 * random) / 5));
  return until(now + wait, rest({ ...state, failures, holdUntil: now + hold }, 'polling', reason));
}

/** Waits as long as the server asked, and at least as long as the failures demand. */
function pause(state: State, now: number, random: number, hold: number): Step {
  const wait = Math.max(hold, state.retry, backoff(state.waits, random));
  return until(now + wait, rest({ ...state, holdUntil: now + hold }, 'waiting', null));
}

/** The same, and the next attempt at a time. */
function until(deadline: number, { state, effects }: Step): Step {
  return to({ ...state, deadline }, ...effects);
}

function rest(
  state: State,
  status: Status,
  reason: Reason | null,
  ...more: readonly Effect[]
): Step {
  return to({ ...idle(state), status, reason }, { type: 'close' }, ...more);
}

/** No stream, and nothing that would be due. */
function idle(state: State): State {
  return {
    ...state,
    isResumed: state.cursor !== '',
    deadline: Infinity,
    renewAt: Infinity,
    openedAt: Infinity,
    isClosing: false,
  };
}

function to(state: State, ...effects: readonly Effect[]): Step {
  return { state, effects };
}

function isSteady({ openedAt }: State, now: number): boolean {
  return now - openedAt >= STEADY_MS;
}

/**
 * The wait that is the first, second, third …: at most 1, 2, 4, 8, 16, 30, 30 … s, at least
 * half of it (and half a second after none). One number for all would bring
 * everybody back in the same instant.
 */
function backoff(waits: number, random: number): number {
  const longest = Math.min(FIRST_WAIT_MS * 2 ** (waits - 1), LONGEST_WAIT_MS);
  return longest * (0.5 + random / 2);
}
