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
export interface ProviderOptions extends Omit<ClientOptions, 'share'> {
  /**
   * Who is logged in: any string that differs between users. The user's tabs
   * then share one stream; without it each has its own.
   */
  readonly user?: string | undefined;
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
 * Functions may be other ones in each render. Another `url`, `user`, `enabled`,
 * `limit` or `heartbeatInterval` begins anew; `transport` is looked at then only.
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
  const { url = '', user, enabled, limit, heartbeatInterval } = options;
  return useMemo(() => {
    if (given) return given;
    // Read when they are needed, never while rendering.
    return createNotificationClient({
      url,
      enabled,
      limit,
      heartbeatInterval,
      share: user === undefined ? undefined : oneStreamPerBrowser(user),
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
      get onError() {
        return latest.current.onError;
      },
    });
  }, [given, url, user, enabled, limit, heartbeatInterval]);
}
