import type { NotificationClient } from '@notify-gateway/client';
import { QueryClient, QueryClientProvider, useQuery, useQueryClient } from '@tanstack/react-query';
import { StrictMode, useEffect, useMemo, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { createClient, feed, notificationsQuery } from './notifications.ts';

interface Props {
  readonly user: string;
  readonly client: NotificationClient;
}

function Badge({ user, client }: Props) {
  const { data } = useQuery({
    ...notificationsQuery(user, client),
    // This component is drawn again only when the number is another.
    select: ({ unreadCount }) => unreadCount,
  });
  return <output aria-label="Unread">{data}</output>;
}

function List({ user, client }: Props) {
  const { data } = useQuery({
    ...notificationsQuery(user, client),
    select: ({ notifications }) => notifications,
  });
  return (
    <ul>
      {data.map(({ id, title, status }) => (
        <li key={id} data-status={status}>
          <button
            onClick={() => {
              // It shows at once. If the API refuses it, the client's next poll takes it back.
              client.markAsRead(id).catch(() => undefined);
            }}
          >
            {title}
          </button>
        </li>
      ))}
    </ul>
  );
}

function Notifications({ user }: { readonly user: string }) {
  const queryClient = useQueryClient();
  const client = useMemo(() => createClient(user), [user]);
  useEffect(() => feed(queryClient, user, client), [queryClient, user, client]);
  return (
    <>
      <Badge user={user} client={client} />
      <List user={user} client={client} />
    </>
  );
}

function App() {
  const [user, setUser] = useState<string | null>(null);
  return (
    <>
      <form
        action={(form) => {
          setUser(String(form.get('user')));
        }}
      >
        <input name="user" aria-label="User" required />
        <button>Log in</button>
        <button
          type="button"
          onClick={() => {
            setUser(null);
          }}
        >
          Log out
        </button>
      </form>
      <p>{user === null ? 'Nobody is logged in' : `Logged in as ${user}`}</p>
      {user !== null && <Notifications user={user} />}
    </>
  );
}

const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={new QueryClient()}>
        <App />
      </QueryClientProvider>
    </StrictMode>,
  );
}
