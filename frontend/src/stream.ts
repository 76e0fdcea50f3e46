import { type Outward, type TokenProvider, createConnection } from './connection.js';
import type { Input, Reason, Status } from './machine.js';
import type { ShareStream, Sharing } from './sharing.js';
import type { Transport } from './transport.js';
import { isSameUser } from './user.js';

/** How often a leader shows that it lives, whatever its stream does. */
const PULSE_MS = 30_000;

/** How the stream is, as the tab that has it tells the others. */
export interface Link {
  readonly status: Status;
  /** Why there is no stream, where `status` is `polling` or `stopped`. */
  readonly reason: Reason | null;
  /** Failed attempts in a row. */
  readonly failures: number;
}

/** Before anything is known. */
export const UNKNOWN: Link = { status: 'connecting', reason: null, failures: 0 };

/** What a tab without the stream passes on to the one that has it. */
export type Wake = 'retry' | 'wake';

interface Options {
  /** Looked up for each attempt. */
  url(): string;
  token(): TokenProvider | undefined;
  transport(): Transport;
  maxFailures(): number;
  readonly share: ShareStream | undefined;
  /** Where to begin; empty: from now on. */
  readonly cursor: string;
  /** Whose the stream is to be; empty where that of the first will do. */
  readonly user: string;
  /** Milliseconds. */
  readonly heartbeat: number;
  /** The link is another now. */
  linked(link: Link, before: Link): void;
  /** Whether this tab leads may be another now. */
  changed(): void;
  /** What the stream has brought, here or in the tab that has it. */
  brought(effect: Outward): void;
  /** The tabs cannot share a stream, since its address is not valid. */
  failed(error: unknown): void;
  /** Somebody else has logged in; the stream has been left. */
  userChanged(): void;
  /** Another tab's {@link Stream.post}. */
  told(message: unknown): void;
}

/** Where the stream is, and whose it is. */
interface Place {
  readonly cursor: string;
  /** As the gateway says; empty before it has. */
  readonly owner: string;
  /** Until when the server has asked to be left alone, in milliseconds since 1970. */
  readonly holdUntil: number;
}

/** What tabs tell each other. Another shape of these needs another number in `keyOf`. */
type Message =
  | { readonly type: 'hello' | 'user_changed' | Wake }
  | ({ readonly type: 'link'; readonly link: Link } & Place)
  | ({ readonly type: 'brought'; readonly effect: Outward } & Place)
  | { readonly type: 'told'; readonly message: unknown };

/** The stream as this tab knows it, whether it has it itself or another tab has. */
export interface Stream {
  readonly link: Link;
  /** Whether this is the tab that has the stream; each is, where tabs share none. */
  readonly isLeading: boolean;
  /** Takes part: has the stream, or listens to the tab that has it. */
  join(): void;
  /** The same, and what was known of the link is forgotten. */
  begin(): void;
  /** Lets go of the stream, which another tab then has. */
  readonly leave: () => void;
  /** Leaves, and there is to be no stream. */
  rest(status: 'polling' | 'stopped', reason: Reason | null): void;
  /** Something says that it may work again. */
  wake(type: Wake): void;
  /** The network is back. */
  online(): void;
  /** Tells the other tabs. */
  post(message: unknown): void;
  /** Forgets where the stream was and whose it was. */
  forget(): void;
}

/** A stream that nobody has asked for yet. */
export function createStream(options: Options): Stream {
  const start = (cursor: string): Place => {
    return { cursor, owner: options.user, holdUntil: 0 };
  };
  let link = UNKNOWN;
  let place = start(options.cursor);
  /** When the stream was heard last, here or in the tab that has it. */
  let heardAt = -Infinity;
  let sharing: Sharing | null = null;
  /** Tells the stream, where this tab has it. */
  let own: ((input: Input) => void) | null = null;
  let pulse: ReturnType<typeof setInterval> | undefined;

  const post = (message: Message): void => {
    sharing?.post(message);
  };
  const postLink = (): void => {
    post({ type: 'link', link, ...place });
  };
  const setLink = (next: Link): boolean => {
    const before = link;
    const isSame = next.status === before.status && next.reason === before.reason;
    if (isSame && next.failures <= before.failures) return false;
    link = next;
    options.linked(next, before);
    return true;
  };

  const lead = (): void => {
    unlead();
    const connection = createConnection({
      ...options,
      transport: options.transport(),
      cursor: place.cursor,
      user: place.owner,
      heardAt,
      changed({ status, reason, failures, user, cursor, isClosing, ...state }) {
        // The end of a stream that was given up is no news.
        if (own !== connection) return;
        if (reason === 'user_changed') {
          post({ type: 'user_changed' });
          userChanged();
          return;
        }
        // A stream that is being closed says itself when to come back.
        const holdUntil = isClosing ? 0 : state.holdUntil;
        place = { cursor, owner: user, holdUntil };
        ({ heardAt } = state);
        if (!setLink({ status, reason, failures })) return;
        // Another tab may still be let in, and one that is opened after a login
        // must not find the lead in the hand of one that has stopped.
        if (status === 'stopped') leave();
        else postLink();
      },
      perform(effect, cursor) {
        post({ type: 'brought', effect, ...place, cursor });
        options.brought(effect);
      },
    });
    own = connection;
    // The others can tell a leader that is quiet from one that is suspended.
    pulse = setInterval(postLink, PULSE_MS);
    own({ type: 'start', holdUntil: place.holdUntil, isOff: link.reason === 'off' });
    options.changed();
  };
  const unlead = (): void => {
    const connection = own;
    own = null;
    clearInterval(pulse);
    connection?.({ type: 'stop' });
    options.changed();
  };
  const leave = (): void => {
    unlead();
    sharing?.leave();
    sharing = null;
  };
  const userChanged = (): void => {
    leave();
    place = start('');
    options.userChanged();
  };

  const hear = (message: Message): void => {
    switch (message.type) {
      case 'hello':
        if (own) postLink();
        break;
      case 'retry':
      case 'wake':
        own?.({ type: message.type });
        break;
      case 'told':
        options.told(message.message);
        break;
      case 'user_changed':
        userChanged();
        break;
      case 'brought':
        if (isOwn(message)) options.brought(message.effect);
        follow(message);
        break;
      case 'link':
        if (follow(message)) setLink(message.link);
    }
  };
  /** Tabs that were opened for one user may stream as another. */
  const isOwn = ({ owner }: Place): boolean =>
    owner === '' || place.owner === '' || isSameUser(owner, place.owner);
  /** False where this tab has a stream as well, as two do while the lead is taken over. */
  const follow = (of: Place): boolean => {
    if (own || !isOwn(of)) return false;
    const { cursor, holdUntil } = of;
    place = { cursor, owner: of.owner || place.owner, holdUntil };
    heardAt = Date.now();
    sharing?.heard();
    return true;
  };

  const join = (): void => {
    leave();
    const handlers = { lead, demoted: unlead, message: hear as (message: unknown) => void };
    try {
      sharing = options.share?.(options.url(), handlers) ?? null;
    } catch (error) {
      options.failed(error);
    }
    if (sharing) post({ type: 'hello' });
    else lead();
  };

  return {
    get link() {
      return link;
    },
    get isLeading() {
      return !sharing || own !== null;
    },
    join,
    begin() {
      link = UNKNOWN;
      join();
    },
    leave,
    rest(status, reason) {
      leave();
      setLink({ status, reason, failures: 0 });
    },
    wake(type) {
      if (own) own({ type });
      else post({ type });
    },
    online() {
      own?.({ type: 'online' });
    },
    post(message) {
      post({ type: 'told', message });
    },
    forget() {
      place = start('');
    },
  };
}
