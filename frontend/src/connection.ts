import { createClock } from './clock.js';
import { type Effect, type Input, type State, dueAt, initial, step } from './machine.js';
import { toStreamEvent } from './protocol.js';
import { within } from './within.js';
import type { StreamSink, Transport } from './transport.js';

/** What a {@link TokenProvider} gives: nothing, where it has renewed a cookie. */
// eslint-disable-next-line @typescript-eslint/no-invalid-void-type -- an async function that only renews a cookie returns nothing
type Token = string | null | undefined | void;

/**
 * Gives a token, or null where nobody is logged in. May be called at any time;
 * a rejection counts as a failed attempt, and it is asked again after a while.
 */
export type TokenProvider = (request: {
  /** The last one was refused or is about to expire: a cached one will not do. */
  readonly fresh: boolean;
}) => Token | Promise<Token>;

/** What is to be done beyond the stream itself. */
export type Outward = Exclude<Effect, { readonly type: 'connect' | 'close' }>;

interface Options {
  /** Looked up for each attempt. */
  url(): string;
  readonly transport: Transport;
  /** Looked up each time: a component's function is another in each render. */
  token(): TokenProvider | undefined;
  /** Where to go on. */
  readonly cursor: string;
  /** Whose the streams are, if that is known. */
  readonly user: string;
  /** When another tab has heard it last, in milliseconds since 1970. */
  readonly heardAt: number;
  /** After how many failures in a row there is to be no stream but now and then. */
  maxFailures(): number;
  /** Time between two heartbeats, in milliseconds, until the gateway says it. */
  readonly heartbeat: number;
  changed(state: State): void;
  perform(effect: Outward, cursor: string): void;
}

interface Question {
  readonly fresh: boolean;
  readonly answer: Promise<Token>;
  readonly ending: AbortController;
}

/** What a browser's timer can hold; a longer one fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** An app that has no token after so long has none; it is asked again with the next attempt. */
const TOKEN_TIMEOUT_MS = 30_000;

/**
 * Does what the machine says, and tells it what came of it. The function it
 * gives takes inputs; one that comes while another is worked on waits its turn.
 */
export function createConnection(options: Options): (input: Input) => void {
  const { transport } = options;
  const clock = createClock();
  let state = initial(options.cursor, options.user, options.heartbeat, options.heardAt);
  const inputs: Input[] = [];
  let isStepping = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** Closes the stream that is open or asked for. */
  let close = (): void => undefined;

  const take = (input: Input): void => {
    inputs.push(input);
    if (isStepping) return;
    isStepping = true;
    for (let next = inputs.shift(); next !== undefined; next = inputs.shift()) {
      const given = { ...state, maxFailures: options.maxFailures() };
      const after = step(given, next, clock(), Math.random());
      state = after.state;
      after.effects.forEach(perform);
      options.changed(state);
    }
    isStepping = false;
    if (state.status === 'stopped') asked?.ending.abort();
    clearTimeout(timer);
    const left = dueAt(state) - clock();
    if (left < Infinity) {
      timer = setTimeout(take, Math.min(left, LONGEST_TIMER_MS), { type: 'tick' });
    }
  };

  const perform = (effect: Effect): void => {
    if (effect.type === 'connect') {
      close();
      close = connect(effect.cursor, effect.fresh);
    } else if (effect.type === 'close') {
      close();
    } else {
      options.perform(effect, state.cursor);
    }
  };

  /** The question that the app has not answered yet. */
  let asked: Question | null = null;

  /** Asks the app, once for all attempts that come while it thinks. */
  const ask = (token: TokenProvider, fresh: boolean): Promise<Token> => {
    if (asked && (asked.fresh || !fresh)) return asked.answer;
    const ending = new AbortController();
    // Async, so that what the app throws is a rejection as well.
    const answer = within(TOKEN_TIMEOUT_MS, async () => token({ fresh }), ending.signal);
    const question = { fresh, answer, ending };
    const forget = (): void => {
      if (asked === question) asked = null;
    };
    answer.then(forget, forget);
    asked = question;
    return answer;
  };

  const connect = (cursor: string, fresh: boolean): (() => void) => {
    let isClosed = false;
    let closeStream = (): void => undefined;
    // What a stream still has to say after it was closed is about the past.
    const tell = (input: Input): void => {
      if (!isClosed) take(input);
    };
    const sink: StreamSink = {
      event(event) {
        tell({ type: 'event', event: toStreamEvent(event), id: event.id });
      },
      retry(milliseconds) {
        tell({ type: 'retryField', milliseconds });
      },
      ended() {
        tell({ type: 'ended' });
      },
      refused(answer) {
        tell({ type: 'refused', ...answer });
      },
    };
    const open = async (): Promise<void> => {
      let bearer: string | undefined;
      const token = options.token();
      if (token && (fresh || !transport.usesCookie)) {
        const given = await ask(token, fresh);
        if (given === null) {
          tell({ type: 'noToken' });
          return;
        }
        bearer = given ?? undefined;
      }
      if (isClosed) return;
      closeStream = transport.open({ url: options.url(), cursor, token: bearer }, sink);
    };
    open().catch(sink.ended);
    return () => {
      isClosed = true;
      closeStream();
    };
  };

  return take;
}
