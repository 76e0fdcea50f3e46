import {
  type ClientState,
  type NotificationClient,
  createNotificationClient,
  oneStreamPerBrowser,
} from '@notify-gateway/client';
import { createSubscriber } from 'svelte/reactivity';
import { createApi } from '../your-app/api.ts';
import { getToken } from '../your-app/session.ts';

/** The notifications of one user. The client runs while anything on the page shows them. */
export class Notifications {
  readonly #client: NotificationClient;
  readonly #subscribe: () => void;

  constructor(user: string) {
    const client = createNotificationClient({
      url: '/api/notifications/stream',
      user,
      share: oneStreamPerBrowser(user),
      token: ({ fresh }) => getToken(user, fresh),
      api: createApi(user),
    });
    this.#client = client;
    this.#subscribe = createSubscriber((update) => {
      const unsubscribe = client.subscribe(update);
      client.start();
      return () => {
        unsubscribe();
        client.stop();
      };
    });
  }

  /** What the client knows; what reads it in a template or an effect is run again when it changes. */
  get state(): ClientState {
    this.#subscribe();
    return this.#client.getState();
  }

  readonly markAsRead = (id: string): void => {
    // One that fails is taken back by the client's next poll.
    this.#client.markAsRead(id).catch(() => undefined);
  };
}
