import {
  type ClientState,
  type NotificationClient,
  createNotificationClient,
  oneStreamPerBrowser,
} from '@notify-gateway/client';
import {
  type InjectionKey,
  type MaybeRefOrGetter,
  type ShallowRef,
  computed,
  inject,
  onScopeDispose,
  provide,
  shallowRef,
  toValue,
  watch,
} from 'vue';
import { createApi } from '../your-app/api.ts';
import { getToken } from '../your-app/session.ts';

export interface Notifications {
  /** Another object with each change; the rows in it are plain objects, and stay the same. */
  readonly state: Readonly<ShallowRef<ClientState>>;
  readonly markAsRead: NotificationClient['markAsRead'];
}

const KEY: InjectionKey<Notifications> = Symbol('notifications');

/** Has a client for `user`, once in the app; `null` while nobody is logged in. */
export function provideNotifications(user: MaybeRefOrGetter<string | null>): Notifications {
  const client = computed(() => createClient(toValue(user)));
  const state = shallowRef(client.value.getState());
  let end = (): void => undefined;
  const follow = (next: NotificationClient): void => {
    end();
    state.value = next.getState();
    const unsubscribe = next.subscribe(() => {
      state.value = next.getState();
    });
    next.start();
    end = () => {
      unsubscribe();
      next.stop();
    };
  };
  // `sync`: nothing is drawn with the name of one user and the rows of another.
  watch(client, follow, { immediate: true, flush: 'sync' });
  onScopeDispose(() => {
    end();
  });

  const notifications: Notifications = {
    state,
    markAsRead: (ids) => client.value.markAsRead(ids),
  };
  provide(KEY, notifications);
  return notifications;
}

/** The notifications of the user who is logged in, in any component below. */
export function useNotifications(): Notifications {
  const notifications = inject(KEY);
  if (!notifications) throw new Error('no component above has called provideNotifications()');
  return notifications;
}

function createClient(user: string | null): NotificationClient {
  const url = '/api/notifications/stream';
  if (user === null) return createNotificationClient({ url, enabled: false });
  return createNotificationClient({
    url,
    user,
    share: oneStreamPerBrowser(user),
    token: ({ fresh }) => getToken(user, fresh),
    api: createApi(user),
  });
}
