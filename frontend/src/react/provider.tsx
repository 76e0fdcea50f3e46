import {
  type ReactElement,
  type ReactNode,
  createContext,
  useContext,
  useEffect,
  useMemo,
  useRef,
} from 'react';
import {
  type ClientOptions,
  type NotificationClient,
  createNotificationClient,
} from '../client.js';
import { oneStreamPerBrowser } from '../sharing.js';
import { type Toaster, useToasts } from './toasts.js';

/** What the provider takes to make its own client. */
export interface ProviderOptions extends Omit<ClientOptions, 'share' | 'user'> {
  /**
   * Who is logged in, as their token names them (`sub`). The user's tabs then share one
   * stream, and one of anybody else is dropped; without it each tab has its own. `null`
   * while nobody is: nothing is streamed, polled or called.
   */
  readonly user?: string | null | undefined;
  readonly client?: undefined;
}

/** Options for a client, or a client. */
export type NotificationProviderProps = (
  | ProviderOptions
  | {
      /** A client made elsewhere; it is started and stopped here. */
      readonly client: NotificationClient;
    }
) & {
  /** Shows `success` and `error` notifications, such as sonner's `toast`. */
  readonly toast?: Toaster | undefined;
  readonly children?: ReactNode;
};

const ClientContext = createContext<NotificationClient | null>(null);

/**
 * Streams and polls while it is mounted, for every hook and bell below it.
 *
 * Functions may be other ones in each render. Another `url`, `user`, `enabled`, `stream`,
 * `limit` or `heartbeatInterval` begins anew, with nothing of before; `transport` is looked at then only.
 */
export function NotificationProvider(props: NotificationProviderProps): ReactElement {
  const client = useOwnOrGivenClient(props);
  useEffect(() => {
    client.start();
    return () => {
      client.stop();
    };
  }, [client]);
  useToasts(client, props.toast);
  return <ClientContext.Provider value={client}>{props.children}</ClientContext.Provider>;
}

/**
 * The client of the provider above.
 *
 * @throws where there is none.
 */
export function useNotificationClient(): NotificationClient {
  const client = useContext(ClientContext);
  if (client === null) throw new Error('there is no <NotificationProvider> above this component');
  return client;
}

function useOwnOrGivenClient(props: NotificationProviderProps): NotificationClient {
  const given = props.client;
  const options: Partial<ProviderOptions> = props.client === undefined ? props : {};
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const { url = '', user, stream, limit, heartbeatInterval } = options;
  const enabled = user !== null && options.enabled !== false;
  return useMemo(() => {
    if (given) return given;
    // Read when they are needed, never while rendering.
    return createNotificationClient({
      url,
      user: user ?? undefined,
      enabled,
      stream,
      limit,
      heartbeatInterval,
      share: user ? oneStreamPerBrowser(user) : undefined,
      get transport() {
        return latest.current.transport;
      },
      get token() {
        return latest.current.token;
      },
      get api() {
        return latest.current.api;
      },
      get onNotification() {
        return latest.current.onNotification;
      },
      get onAuthenticationError() {
        return latest.current.onAuthenticationError;
      },
      get closeWhenHidden() {
        return latest.current.closeWhenHidden;
      },
      get onUserChanged() {
        return latest.current.onUserChanged;
      },
      get onError() {
        return latest.current.onError;
      },
    });
  }, [given, url, user, enabled, stream, limit, heartbeatInterval]);
}
