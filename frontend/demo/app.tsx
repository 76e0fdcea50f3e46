import { type ReactElement, useCallback, useEffect, useState } from 'react';
import { Notice } from './notice.js';
import { Panel } from './panel.js';
import { type User, fetchUsers } from './user.js';

/** The users of the demo, side by side. */
export function App(): ReactElement {
  const [users, setUsers] = useState<readonly User[] | null>(null);
  const [error, setError] = useState<unknown>(null);
  const load = useCallback(() => {
    fetchUsers().then(setUsers, setError);
  }, []);
  useEffect(load, [load]);

  if (users) return <Users users={users} onUsers={setUsers} />;
  if (error === null) {
    return (
      <p className="loading" role="status">
        Loading…
      </p>
    );
  }
  return (
    <Notice error={error}>
      <button
        type="button"
        className="plain"
        onClick={() => {
          setError(null);
          load();
        }}
      >
        Try again
      </button>
    </Notice>
  );
}

function Users(props: {
  readonly users: readonly User[];
  readonly onUsers: (users: readonly User[]) => void;
}): ReactElement {
  const { users, onUsers } = props;
  const [unreadOf, setUnread] = useState<ReadonlyMap<string, number>>(new Map());
  const total = [...unreadOf.values()].reduce((sum, unread) => sum + unread, 0);
  useEffect(() => {
    document.title = total === 0 ? 'notify-gateway' : `(${total}) notify-gateway`;
  }, [total]);
  const count = useCallback((name: string, unread: number) => {
    setUnread((before) => new Map(before).set(name, unread));
  }, []);
  // A gateway that was started again has a new database and new users: the page
  // goes on with those, under the same names.
  const renew = async (user: User): Promise<string | null> => {
    const found = await fetchUsers();
    onUsers(found);
    return found.find(({ user_id }) => user_id === user.user_id)?.token ?? null;
  };
  return (
    <div className="users">
      {users.map((user, index) => (
        <Panel key={user.name} user={user} first={index} renew={renew} onUnread={count} />
      ))}
    </div>
  );
}
