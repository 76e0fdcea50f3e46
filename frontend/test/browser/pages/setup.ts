/** What the pages have in common: their options come in the query, what happens is kept for the tests. */
import {
  type ClientState,
  type NotificationRow,
  type NotificationApi,
  type NotificationClient,
  type TokenProvider,
  type Transport,
  eventSourceTransport,
  fetchTransport,
} from '../../../src/index.js';
import type { NotificationBellProps } from '../../../src/react/index.js';

/** What a test can look at in a page. */
export interface Probe {
  client: NotificationClient | null;
  /** Each status that was different from the one before. */
  readonly statuses: { status: ClientState['status']; failures: number; at: number }[];
  /** What `onNotification` was called with. */
  readonly arrived: { id: string; title: string; at: number }[];
  readonly toasts: string[];
  /** Why the stream could not tell what was missed; `connected` is the beginning. */
  readonly resyncs: string[];
  /** What is to happen once in a browser. */
  readonly rung: string[];
  readonly authenticationErrors: number[];
  readonly errors: string[];
  /** Each time a token was asked for, and whether a fresh one. */
  readonly tokens: boolean[];
  /** How often the page came back from where the browser keeps pages. */
  restored: number;
  /** Somebody else logs in, or nobody is. */
  become?: (user: string | null) => void;
  /** Called when the page has drawn that. */
  became?: (user: string | null) => void;
  /** Gives the bell other props. */
  setBell?: (props: NotificationBellProps) => void;
  /** Has the bell draw entries of the app's own. */
  draw?: () => void;
  /** What the bell's functions have to tell. */
  readonly told: string[];
  /** Puts the React tree in the page, or takes it out. */
  setMounted?: (isMounted: boolean) => void;
}

declare global {
  interface Window {
    probe: Probe;
  }
}

export const probe: Probe = (window.probe = {
  client: null,
  statuses: [],
  arrived: [],
  toasts: [],
  rung: [],
  resyncs: [],
  authenticationErrors: [],
  errors: [],
  tokens: [],
  told: [],
  restored: 0,
});

window.addEventListener('pageshow', ({ persisted }) => {
  if (persisted) probe.restored += 1;
});

const query = new URLSearchParams(location.search);
let user = query.get('user') ?? '';
const isCookie = query.get('transport') === 'event-source';
let bearer = '';

/** From now on tokens are of this user. */
export function become(next: string | null): void {
  user = next ?? '';
  bearer = '';
}

async function logIn(): Promise<void> {
  const response = await fetch(`/login?user=${user}`, { method: 'POST' });
  if (!response.ok) throw new Error('the login is closed');
  ({ token: bearer } = (await response.json()) as { token: string });
}

const token: TokenProvider = async ({ fresh }) => {
  probe.tokens.push(fresh);
  if (fresh || bearer === '') await logIn();
  return bearer;
};

/** The app's API, as an app asks it: with a new token where the old one has expired. */
async function get<T>(
  path: string,
  signal?: AbortSignal,
  method = 'GET',
  isAgain = false,
): Promise<T> {
  if (bearer === '') await logIn();
  const headers = { authorization: `Bearer ${bearer}` };
  const response = await fetch(`/api/notifications${path}`, {
    method,
    headers,
    ...(signal && { signal }),
  });
  if (response.status === 401 && !isAgain) {
    await logIn();
    return get(path, signal, method, true);
  }
  if (!response.ok) throw new Error(`the app's API said ${response.status}`);
  return (await response.json()) as T;
}

const post = (path: string) => (ids: readonly string[]) =>
  get(`${path}?${ids.map((id) => `id=${id}`).join('&')}`, undefined, 'POST');
const marks = {
  markAsRead: post('/read'),
  markAllAsRead: () => get('/read', undefined, 'POST'),
};
const separate: NotificationApi = {
  list: ({ signal }) => get<NotificationRow[]>('', signal),
  unreadCount: async ({ signal }) => (await get<{ count: number }>('/unread-count', signal)).count,
  ...marks,
};
const together: NotificationApi = {
  list: ({ signal }) =>
    get<{ notifications: NotificationRow[]; unreadCount: number }>('/page', signal),
  ...marks,
};

const full: NotificationApi = {
  ...together,
  list: ({ limit, signal }) =>
    get<{ notifications: NotificationRow[]; unreadCount: number }>(`/page?limit=${limit}`, signal),
  markAsUnread: post('/unread'),
  archive: post('/archive'),
  remove: post('/delete'),
};
const APIS: Record<string, NotificationApi | undefined> = { page: together, full, none: undefined };

/** With a cookie the user has logged in before the page is there. */
export async function options() {
  if (isCookie) await logIn();
  const name = query.get('api');
  const transport: Transport = isCookie ? eventSourceTransport() : fetchTransport();
  return {
    url: query.get('url') ?? '',
    user: query.get('share') === 'no' ? undefined : user,
    stream: query.get('stream') !== 'no',
    heartbeatInterval: 2_000,
    transport,
    token,
    api: name !== null && name in APIS ? APIS[name] : separate,
    onNotification: ({ id, title }: NotificationRow) => {
      probe.arrived.push({ id, title, at: Date.now() });
    },
    onResync: (reason: string) => {
      probe.resyncs.push(reason);
    },
    onAuthenticationError: () => {
      probe.authenticationErrors.push(Date.now());
    },
    onError: (error: unknown) => {
      probe.errors.push(String(error));
    },
  };
}

/** Keeps what becomes of a client. */
export function watch(client: NotificationClient): void {
  probe.client = client;
  const note = (): void => {
    const { status, failures } = client.getState();
    if (probe.statuses.at(-1)?.status !== status) {
      probe.statuses.push({ status, failures, at: Date.now() });
    }
  };
  note();
  client.subscribe(note);
}
