import type { ActionName, NotificationApi, Page } from './api.js';
import type { TokenProvider } from './connection.js';
import type { Arrival, NotificationRow } from './notification.js';
import type { ShareStream } from './sharing.js';
import type { Transport } from './transport.js';
import type { Logger } from './warn.js';

/** A list that the server has put into the page. */
export interface InitialData<Metadata = unknown> extends Page<Metadata> {
  /** Whose it is: it is not shown to anybody but the client's `user`. */
  readonly user: string;
  /**
   * `notify_gateway.cursor()` of the transaction that read the list: the stream then begins
   * exactly there.
   */
  readonly cursor?: string | undefined;
}

/** What {@link createNotificationClient} takes. */
export interface ClientOptions<Metadata = unknown> {
  /** The gateway's stream, such as `/api/notifications/stream`; a function is called for each attempt. */
  readonly url: string | (() => string);
  /**
   * Gives the bearer token; with {@link eventSourceTransport}, renews the
   * cookie. Asked again after a 401 and `token_expired`, and shortly before the
   * token ends. Without it the browser's cookies have to do.
   */
  readonly token?: TokenProvider | undefined;
  /** `fetchTransport()` by default. */
  readonly transport?: Transport | undefined;
  /** The app's REST API: the list and the count, and what is polled without a stream. */
  readonly api?: NotificationApi<Metadata> | undefined;
  /**
   * Who is logged in, as their token names them (`sub`): a stream of anybody else is dropped.
   * Without it, that of the first stream.
   */
  readonly user?: string | undefined;
  /** A list that is shown before the first one is fetched. */
  readonly initialData?: InitialData<Metadata> | undefined;
  /** `false`: nobody is logged in yet. Nothing is streamed, polled or called. */
  readonly enabled?: boolean | undefined;
  /** `false` leaves polling only, as behind a feature flag. */
  readonly stream?: boolean | undefined;
  /** `oneStreamPerBrowser(user)` lets the tabs share a stream; without it each has its own. */
  readonly share?: ShareStream | undefined;
  /** After how many failed attempts in a row the client polls, and streams but now and then; 10 by default. */
  readonly maxReconnectAttempts?: number | undefined;
  /**
   * The gateway's `--heartbeat` in milliseconds, for one that does not say it itself: after
   * 2.5 of them in silence a stream is dead. 30 000 by default.
   */
  readonly heartbeatInterval?: number | undefined;
  /**
   * Closes the stream when the page has been out of view for half a minute, and goes on where
   * it was when it is looked at. Off by default: a hidden page then has no title, sound or
   * desktop notification to show meanwhile.
   */
  readonly closeWhenHidden?: boolean | undefined;
  /** How many of the newest notifications are kept, and how many more `fetchMore()` brings; 20 by default. */
  readonly limit?: number | undefined;
  /** How many `fetchMore()` can bring in all: each poll asks for all that are shown. 200 by default. */
  readonly maxLimit?: number | undefined;
  /**
   * Called once in each tab for each new notification, whichever way it came;
   * not for those that were there before.
   */
  readonly onNotification?:
    ((notification: NotificationRow<Metadata>, arrival: Arrival) => void) | undefined;
  /**
   * The stream cannot tell what was missed: a list that the app keeps itself is to be fetched
   * again. `connected` at the beginning, or the gateway's reason. The client's own list needs nothing.
   */
  readonly onResync?: ((reason: string) => void) | undefined;
  /**
   * The gateway refused even a fresh token, or there was none: show the login.
   * Nothing happens any more until `retry()`.
   */
  readonly onAuthenticationError?: (() => void) | undefined;
  /**
   * The stream is not that of `user`, or of the user of before: somebody else has logged in,
   * in another tab perhaps. All that was known is forgotten, in every tab that shares the stream, and
   * nothing happens any more until `retry()`, or `reset()`.
   */
  readonly onUserChanged?: (() => void) | undefined;
  /**
   * A poll that failed, or, where `action` says so, what the user did: with what the app's API
   * rejected with. A `NotificationClientError` where the set-up is wrong.
   */
  readonly onError?: ((error: unknown, action?: ActionName) => void) | undefined;
  /** Where warnings (in development) and what the stream does are written; warnings go to the console by default. */
  readonly logger?: Logger | undefined;
}
