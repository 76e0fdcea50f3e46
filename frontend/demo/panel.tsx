import { type ReactElement, useEffect, useId, useRef, useState } from 'react';
import {
  NotificationBell,
  NotificationList,
  NotificationProvider,
  useNotificationSSE,
  useNotifications,
} from '../src/react/index.js';
import { apiOf } from './api.js';
import { Failure } from './failure.js';
import { EmptyBell } from './icons.js';
import { useInsertTime } from './insert-time.js';
import { InsertForm } from './insert.js';
import { Log } from './log.js';
import { ring } from './motion.js';
import { StreamState } from './stream-state.js';
import { Terminal } from './terminal.js';
import type { User } from './user.js';
import { type Watch, watchStream } from './watch.js';
import { wordsOf } from './words.js';

interface PanelProps {
  readonly user: User;
  /** Which sample the form begins with. */
  readonly first: number;
  /** Asks the application who is who now; null where it no longer knows the user. */
  readonly renew: (user: User) => Promise<string | null>;
  /** Stays the same function from one render to the next. */
  readonly onUnread: (name: string, count: number) => void;
}

/** One of the users, with a client of their own. */
export function Panel(props: PanelProps): ReactElement {
  const { user, renew } = props;
  const [watch] = useState(watchStream);
  return (
    <NotificationProvider
      user={user.user_id}
      url="/api/notifications/stream"
      token={({ fresh }) => (fresh ? renew(user) : user.token)}
      transport={watch.transport}
      api={apiOf(user.user_id)}
    >
      <Card {...props} watch={watch} />
    </NotificationProvider>
  );
}

function Card(props: PanelProps & { readonly watch: Watch }): ReactElement {
  const { user, first, watch, onUnread } = props;
  const { unreadCount, error } = useNotifications();
  const { took, inserted } = useInsertTime();
  const root = useRef<HTMLElement>(null);
  const nameId = useId();
  const words = wordsOf(user.name, error);

  useNotificationSSE(() => {
    ring(root.current);
  });
  useEffect(() => {
    onUnread(user.name, unreadCount);
  }, [onUnread, user.name, unreadCount]);

  return (
    <section ref={root} className="user" aria-labelledby={nameId}>
      <div className="who">
        <span className="avatar" aria-hidden="true">
          {user.name.charAt(0)}
        </span>
        <div className="name">
          <h2 id={nameId} title={user.user_id}>
            {user.name}
          </h2>
          <StreamState name={user.name} watch={watch} />
        </div>
        <NotificationBell
          // Over the page, it is to say whose it is.
          labels={{ ...words, title: `Notifications of ${user.name}` }}
          locale="en-GB"
          closeOnSelect={false}
        />
      </div>
      <InsertForm user={user} first={first} onInserted={inserted} />
      <div className="inbox">
        <Failure />
        <NotificationList labels={words} locale="en-GB" empty={<Empty />} />
      </div>
      <Terminal user={user} />
      <Log watch={watch} took={took} />
    </section>
  );
}

function Empty(): ReactElement {
  return (
    <>
      <EmptyBell />
      <strong>No notifications yet</strong>
      <span>Insert a row and it appears here.</span>
    </>
  );
}
