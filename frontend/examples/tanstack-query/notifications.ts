import {
  type ClientState,
  type NotificationClient,
  createNotificationClient,
  oneStreamPerBrowser,
} from '@notify-gateway/client';
import { type QueryClient, queryOptions } from '@tanstack/react-query';
import { createApi } from '../your-app/api.ts';
import { getToken } from '../your-app/session.ts';

/** The client of one user. It does nothing before {@link feed} starts it. */
export function createClient(user: string): NotificationClient {
  return createNotificationClient({
    url: '/api/notifications/stream',
    user,
    share: oneStreamPerBrowser(user),
    token: ({ fresh }) => getToken(user, fresh),
    api: createApi(user),
  });
}

/** What components give to `useQuery`, with a `select` for the part they draw. */
export function notificationsQuery(user: string, client: NotificationClient) {
  return queryOptions({
    // Users have entries of their own: no component of one can read that of another.
    queryKey: ['notifications', user],
    // A component that is mounted late begins with what the client knows by then.
    initialData: client.getState,
    // The client says when something is new, so the query is never stale by itself. Where the
    // app invalidates it, the client asks the API, and the answer comes by `feed`.
    staleTime: Infinity,
    queryFn: (): ClientState => {
      client.refresh();
      return client.getState();
    },
    // Nothing stays in the cache when the last component of the user is gone.
    gcTime: 0,
    // The client keeps what has not changed as the same objects, so nothing is to be compared.
    structuralSharing: false,
  });
}

/** Starts the client and has it write to the cache; the function it gives ends both. */
export function feed(queryClient: QueryClient, user: string, client: NotificationClient) {
  const { queryKey } = notificationsQuery(user, client);
  const unsubscribe = client.subscribe(() => {
    // An entry that nobody shows is not made here: it would outlive the user.
    queryClient.setQueryData(queryKey, (cached) => cached && client.getState());
  });
  client.start();
  return () => {
    unsubscribe();
    client.stop();
  };
}
