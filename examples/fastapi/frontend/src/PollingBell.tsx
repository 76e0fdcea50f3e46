import { useEffect, useRef, useState } from 'react';
import { useInterval, useResource } from './hooks';
import {
  type Notification,
  type NotificationPage,
  LIST,
  markAllAsRead,
  markAsRead,
  remove,
} from './notifications';
import { useSession } from './session';

export const POLL_MS = 30_000;

export function PollingBell() {
  const { request } = useSession();
  const { data, error, reload } = useResource<NotificationPage>(`${LIST}?limit=20`);
  const [isOpen, setIsOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  useInterval(reload, POLL_MS);

  useEffect(() => {
    if (!isOpen) return;
    const closeOutside = (event: PointerEvent) => {
      if (!root.current?.contains(event.target as Node)) setIsOpen(false);
    };
    const closeOnEscape = (event: KeyboardEvent) => {
      if (event.key === 'Escape') setIsOpen(false);
    };
    document.addEventListener('pointerdown', closeOutside);
    document.addEventListener('keydown', closeOnEscape);
    return () => {
      document.removeEventListener('pointerdown', closeOutside);
      document.removeEventListener('keydown', closeOnEscape);
    };
  }, [isOpen]);

  const { notifications = [], unread_count: unreadCount = 0 } = data ?? {};
  // Whether it worked or not, the list then shows what is true.
  const run = (action: Promise<void>) => void action.catch(() => undefined).then(reload);
  const choose = ({ id, link }: Notification) => {
    run(markAsRead(request, [id]));
    setIsOpen(false);
    if (link) location.hash = link;
  };

  return (
    <div ref={root} className="bell" data-bell="polling">
      <button
        className="bell-button"
        aria-label={unreadCount > 0 ? `Notifications, ${unreadCount} unread` : 'Notifications'}
        aria-haspopup="dialog"
        aria-expanded={isOpen}
        onClick={() => setIsOpen(!isOpen)}
      >
        <BellIcon />
        {unreadCount > 0 && <span className="badge">{unreadCount}</span>}
      </button>
      {isOpen && (
        <div className="panel" role="dialog" aria-label="Notifications">
          <div className="panel-head">
            <h2>Notifications</h2>
            {unreadCount > 0 && (
              <button className="quiet" onClick={() => run(markAllAsRead(request))}>
                Mark all as read
              </button>
            )}
          </div>
          {error && <p role="alert">{error}</p>}
          <ul>
            {notifications.map((notification) => (
              <li key={notification.id} data-status={notification.status}>
                <button className="entry" onClick={() => choose(notification)}>
                  <strong>{notification.title}</strong>
                  <span className="muted">{notification.message}</span>
                </button>
                <button className="quiet" onClick={() => run(remove(request, notification.id))}>
                  Delete
                </button>
              </li>
            ))}
          </ul>
          {data && notifications.length === 0 && <p className="muted">Nothing new</p>}
        </div>
      )}
    </div>
  );
}

function BellIcon() {
  return (
    <svg
      viewBox="0 0 24 24"
      width="20"
      height="20"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.75"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      <path d="M6 9a6 6 0 0 1 12 0c0 6 2.5 7 2.5 7h-17S6 15 6 9" />
      <path d="M10 20a2.2 2.2 0 0 0 4 0" />
    </svg>
  );
}
