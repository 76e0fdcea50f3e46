import {
  type ReactElement,
  type ReactNode,
  createContext,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
} from 'react';
import { type NotificationClient, createNotificationClient } from '../client.js';
import type { ClientOptions } from '../options.js';
import { oneStreamPerBrowser } from '../sharing.js';
import { useStreamSettings } from './stream-settings.js';
import { type ToastMany, type Toaster, useToasts } from './toasts.js';

/** What the provider takes to make its own client. */
export interface ProviderOptions<Metadata = unknown> extends Omit<
  ClientOptions<Metadata>,
  'share' | 'user'
> {
  /**
   * Who is logged in, as their token names them (`sub`). The user's tabs then share one
   * stream, and one of anybody else is dropped; without it each tab has its own. `null`
   * while nobody is: nothing is streamed, polled or called.
   */
  readonly user?: string | null | undefined;
  readonly client?: undefined;
}

/** Options for a client, or a client. */
export type NotificationProviderProps<Metadata = unknown> = (
  | ProviderOptions<Metadata>
  | {
      /** A client made elsewhere; it is started and stopped here. */
      readonly client: NotificationClient<Metadata>;
    }
) & {
  /** Shows `success` and `error` notifications as they come, such as sonner's `toast`. */
  readonly toast?: Toaster | undefined;
  /** What the one toast says that stands for all but the first three of many; "7 more notifications" by default. */
  readonly toastMany?: ToastMany | undefined;
  readonly children?: ReactNode;
};

/** What the provider gives to those below it. */
interface Provided {
  readonly client: NotificationClient;
  /** Whether toasts are shown, which screen readers then read out. */
  readonly hasToasts: boolean;
}

const Provision = createContext<Provided | null>(null);

/**
 * Streams and polls while it is mounted, for every hook and bell below it.
 *
 * Functions may be other ones in each render. Another `url`, `user`, `enabled`, `limit`,
 * `maxLimit` or `heartbeatInterval` begins anew, with nothing of before; `transport` is looked at then only.
 */
export function NotificationProvider<Metadata = unknown>(
  props: NotificationProviderProps<Metadata>,
): ReactElement {
  // Which type `metadata` has is between the app and its table.
  const given = props as NotificationProviderProps;
  const client = useOwnOrGivenClient(given);
  useEffect(() => {
    client.start();
    return () => {
      client.stop();
    };
  }, [client]);
  useChanges(client, given.client === undefined ? given : {});
  useToasts(client, props.toast, props.toastMany);
  const hasToasts = props.toast !== undefined;
  const provided = useMemo(() => ({ client, hasToasts }), [client, hasToasts]);
  return <Provision.Provider value={provided}>{props.children}</Provision.Provider>;
}

/** What the provider above gives. */
export function useProvided(): Provided {
  const provided = useContext(Provision);
  if (provided === null) throw new Error('there is no <NotificationProvider> above this component');
  return provided;
}

/**
 * The client of the provider above.
 *
 * @throws where there is none.
 */
export function useNotificationClient<Metadata = unknown>(): NotificationClient<Metadata> {
  return useProvided().client as NotificationClient<Metadata>;
}

function useOwnOrGivenClient(props: NotificationProviderProps): NotificationClient {
  const given = props.client;
  const options: Partial<ProviderOptions> = props.client === undefined ? props : {};
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const { url = '', user, limit, maxLimit, heartbeatInterval } = options;
  const address = typeof url === 'string' ? url : null;
  const enabled = user !== null && options.enabled !== false;
  // Those of each user once: an object that is another in each render is no other list.
  const [initialData, setInitialData] = useState(options.initialData);
  if (initialData?.user !== options.initialData?.user) setInitialData(options.initialData);
  return useMemo(() => {
    if (given) return given;
    // Functions are read when they are needed.
    return createNotificationClient({
      get url() {
        return address ?? ((): string => resolve(latest.current.url));
      },
      user: user ?? undefined,
      enabled,
      limit,
      maxLimit,
      heartbeatInterval,
      initialData,
      get stream() {
        return latest.current.stream;
      },
      get logger() {
        return latest.current.logger;
      },
      // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-conversion -- likewise a number, perhaps
      share: user ? oneStreamPerBrowser(String(user)) : undefined,
      get transport() {
        return latest.current.transport;
      },
      get token() {
        return latest.current.token;
      },
      get api() {
        return latest.current.api;
      },
      get closeWhenHidden() {
        return latest.current.closeWhenHidden;
      },
      get onNotification() {
        return latest.current.onNotification;
      },
      get onResync() {
        return latest.current.onResync;
      },
      get onAuthenticationError() {
        return latest.current.onAuthenticationError;
      },
      get onUserChanged() {
        return latest.current.onUserChanged;
      },
      get onError() {
        return latest.current.onError;
      },
    });
  }, [given, address, user, enabled, limit, maxLimit, heartbeatInterval, initialData]);
}

/** What may change while a client goes on. */
function useChanges(client: NotificationClient, options: Partial<ProviderOptions>): void {
  useStreamSettings(client, options.stream, options.maxReconnectAttempts);
  const hasApi = options.api !== undefined;
  const hadApi = useRef(hasApi);
  useEffect(() => {
    // One that is given later is asked at once.
    if (hasApi && !hadApi.current) client.refresh();
    hadApi.current = hasApi;
  }, [client, hasApi]);
}

function resolve(url: ClientOptions['url'] = ''): string {
  return typeof url === 'function' ? url() : url;
}
