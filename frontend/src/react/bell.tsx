import {
  type KeyboardEvent,
  type MouseEvent,
  type ReactElement,
  type ReactNode,
  useEffect,
  useId,
  useRef,
  useState,
} from 'react';
import type { Notification } from '../notification.js';
import { useClientState, useNotificationSSE, useNotifications } from './hooks.js';
import { type Placement, usePosition } from './position.js';
import { useNotificationClient } from './provider.js';
import { relativeTime, useMinute } from './time.js';

/** The words of the bell. */
export interface BellLabels {
  /** The button's name, which screen readers say; the badge is only seen. */
  readonly button: (unreadCount: number) => string;
  /** The panel's heading. */
  readonly title: string;
  readonly markAllAsRead: string;
  readonly empty: string;
  /** While the first list is on its way. */
  readonly loading: string;
  /** Where the list cannot be fetched. */
  readonly error: string;
  readonly tryAgain: string;
  /** Of an entry, for screen readers; the dot is only seen. */
  readonly unread: string;
  /** What an entry's sign says of its type. */
  readonly type: (type: string) => string;
  /** What screen readers say when a notification comes. */
  readonly announcement: (notification: Notification, unreadCount: number) => string;
}

/** What can be changed about the bell. */
export interface NotificationBellProps {
  /** Beside `ng-bell`. */
  readonly className?: string | undefined;
  /** In place of the drawn bell. */
  readonly icon?: ReactNode;
  readonly labels?: Partial<BellLabels> | undefined;
  /** Whether the panel is open, where the page decides it; without it the bell does. */
  readonly open?: boolean | undefined;
  /** The panel wants to open or close. */
  readonly onOpenChange?: ((isOpen: boolean) => void) | undefined;
  /** `bottom-end` by default; wherever it is, the panel stays in the window. */
  readonly placement?: Placement | undefined;
  /** What an entry of the list shows. */
  readonly renderItem?: ((notification: Notification) => ReactNode) | undefined;
  /** Where an entry leads: it is a link then, and a button where this gives nothing. */
  readonly getHref?: ((notification: Notification) => string | null | undefined) | undefined;
  /** `created_at` for the reader; "3 minutes ago" by default, told anew while it is seen. */
  readonly formatTime?: ((time: Date) => string) | undefined;
  /** The language of times, as in `de-CH`; the browser's by default. */
  readonly locale?: string | undefined;
  /**
   * An entry was chosen, and has been marked as read; the panel closes. A router of the app
   * goes where the entry leads and calls `event.preventDefault()`.
   */
  readonly onSelect?: ((notification: Notification, event: MouseEvent) => void) | undefined;
  /** `false` leaves the panel open when an entry is chosen. */
  readonly closeOnSelect?: boolean | undefined;
  /** Under the list: a link to all of them, say. */
  readonly footer?: ReactNode;
}

const ENGLISH: BellLabels = {
  button: (unreadCount) =>
    unreadCount > 0 ? `Notifications, ${unreadCount} unread` : 'Notifications',
  title: 'Notifications',
  markAllAsRead: 'Mark all as read',
  empty: 'Nothing new',
  loading: 'Loading …',
  error: 'The notifications cannot be loaded.',
  tryAgain: 'Try again',
  unread: 'unread',
  type: (type) => type,
  announcement: ({ title }, unreadCount) => `${title}. ${unreadCount} unread`,
};

/** Seen by nobody and read out all the same, with or without the style sheet. */
const HEARD_ONLY = {
  position: 'absolute',
  width: 1,
  height: 1,
  overflow: 'hidden',
  clipPath: 'inset(50%)',
  whiteSpace: 'nowrap',
} as const;

/**
 * A bell with a badge, and the newest notifications behind it.
 *
 * Looks are those of `@notify-gateway/client/style.css`, whose `--ng-…` variables
 * and `ng-bell…` classes may be overridden; without it the browser's own.
 */
export function NotificationBell(props: NotificationBellProps): ReactElement {
  const { className = '', icon, onSelect, closeOnSelect = true, placement = 'bottom-end' } = props;
  const labels = { ...ENGLISH, ...props.labels };
  const { notifications, unreadCount, isLoading, error, ...act } = useNotifications();
  // What was announced, and opened, for another user is of no concern to this one.
  const client = useNotificationClient();
  const session = useClientState(client, 'session');
  const [announced, setAnnounced] = useState<{ of: number; words: string } | null>(null);
  const [openedIn, setOpenedIn] = useState<number | null>(null);
  const isOpen = props.open ?? openedIn === session;
  const words = announced?.of === session ? announced.words : null;
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  const panelId = useId();
  useNotificationSSE((arrived) => {
    // As it is now: words that changed with the count would be said again.
    const words = labels.announcement(arrived, client.getState().unreadCount);
    setAnnounced({ of: session, words });
  });
  const setIsOpen = (is: boolean): void => {
    setOpenedIn(is ? session : null);
    if (is !== isOpen) props.onOpenChange?.(is);
  };
  const latestSetIsOpen = useRef(setIsOpen);
  useEffect(() => {
    latestSetIsOpen.current = setIsOpen;
  });
  usePosition(button, panel, isOpen, placement);
  const now = useMinute(isOpen);
  const formatTime =
    props.formatTime ?? ((time: Date): string => relativeTime(time, now, props.locale));

  useEffect(() => {
    if (!isOpen) return;
    panel.current?.focus({ preventScroll: true });
    const closeOutside = (event: Event): void => {
      // Through shadow roots too.
      if (root.current && !event.composedPath().includes(root.current)) {
        latestSetIsOpen.current(false);
      }
    };
    document.addEventListener('pointerdown', closeOutside);
    document.addEventListener('focusin', closeOutside);
    return () => {
      document.removeEventListener('pointerdown', closeOutside);
      document.removeEventListener('focusin', closeOutside);
    };
  }, [isOpen]);

  const close = (): void => {
    setIsOpen(false);
    button.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (!isOpen) return;
    if (event.key === 'Escape') {
      event.stopPropagation();
      close();
    } else if (moveFocus(panel.current, event.key)) {
      event.preventDefault();
    }
  };
  const select = (notification: Notification, event: MouseEvent): void => {
    // A mark that fails is undone by the next poll, and the provider's onError
    // has been told.
    if (notification.status === 'unread') act.markAsRead(notification.id).catch(() => undefined);
    // A link that is opened in another tab, or saved.
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    onSelect?.(notification, event);
    if (closeOnSelect) close();
  };

  return (
    <div ref={root} className={`ng-bell ${className}`.trim()} onKeyDown={onKeyDown}>
      <button
        ref={button}
        type="button"
        className="ng-bell__button"
        aria-label={labels.button(unreadCount)}
        aria-haspopup="dialog"
        aria-expanded={isOpen}
        aria-controls={isOpen ? panelId : undefined}
        onClick={() => {
          setIsOpen(!isOpen);
        }}
      >
        {icon ?? <BellIcon />}
        {unreadCount > 0 && (
          // Another key with each number makes it appear anew, which the style
          // sheet animates.
          <span key={unreadCount} className="ng-bell__badge" aria-hidden="true">
            {unreadCount > 99 ? '99+' : unreadCount}
          </span>
        )}
      </button>
      <span role="status" style={HEARD_ONLY}>
        {words}
      </span>
      {isOpen && (
        <div
          ref={panel}
          id={panelId}
          // In the top layer nothing clips it.
          popover="manual"
          role="dialog"
          aria-label={labels.title}
          aria-busy={isLoading}
          tabIndex={-1}
          className="ng-bell__panel"
        >
          <div className="ng-bell__header">
            <span className="ng-bell__title">{labels.title}</span>
            {unreadCount > 0 && (
              <button
                type="button"
                className="ng-bell__all"
                onClick={() => {
                  // The button goes away with what it has done; the focus must
                  // not go with it.
                  panel.current?.focus();
                  act.markAllAsRead().catch(() => undefined);
                }}
              >
                {labels.markAllAsRead}
              </button>
            )}
          </div>
          {error !== null && (
            <p className="ng-bell__error" role="alert">
              {labels.error}{' '}
              <button type="button" className="ng-bell__again" onClick={act.refresh}>
                {labels.tryAgain}
              </button>
            </p>
          )}
          {notifications.length === 0 && error === null && (
            <p className="ng-bell__empty">{isLoading ? labels.loading : labels.empty}</p>
          )}
          <ul className="ng-bell__list">
            {notifications.map((notification) => (
              <li key={notification.id} className="ng-bell__entry">
                <Entry
                  notification={notification}
                  href={props.getHref?.(notification)}
                  onChoose={select}
                >
                  {props.renderItem?.(notification) ?? (
                    <Item
                      notification={notification}
                      labels={labels}
                      formatTime={formatTime}
                      locale={props.locale}
                    />
                  )}
                </Entry>
              </li>
            ))}
          </ul>
          {props.footer !== undefined && <div className="ng-bell__footer">{props.footer}</div>}
        </div>
      )}
    </div>
  );
}

/** A link where it leads somewhere, a button otherwise. */
function Entry({
  notification,
  href,
  onChoose,
  children,
}: {
  readonly notification: Notification;
  readonly href: string | null | undefined;
  readonly onChoose: (notification: Notification, event: MouseEvent) => void;
  readonly children: ReactNode;
}): ReactElement {
  const common = {
    className: 'ng-bell__item',
    'data-item': '',
    'data-type': notification.type,
    'data-status': notification.status,
    onClick: (event: MouseEvent) => {
      onChoose(notification, event);
    },
  };
  if (href === null || href === undefined) {
    return (
      <button type="button" {...common}>
        {children}
      </button>
    );
  }
  return (
    <a href={href} {...common}>
      {children}
    </a>
  );
}

function Item({
  notification: { type, title, message, created_at, status },
  labels,
  formatTime,
  locale,
}: {
  readonly notification: Notification;
  readonly labels: BellLabels;
  readonly formatTime: (time: Date) => string;
  readonly locale: string | undefined;
}): ReactElement {
  const time = new Date(created_at);
  return (
    <>
      <TypeIcon type={type} label={labels.type(type)} />
      <span className="ng-bell__item-title" dir="auto">
        {title}
      </span>
      {status === 'unread' && (
        <>
          <span className="ng-bell__dot" aria-hidden="true" />
          <span style={HEARD_ONLY}>{labels.unread}</span>
        </>
      )}
      {message && (
        <span className="ng-bell__item-message" dir="auto">
          {message}
        </span>
      )}
      {!Number.isNaN(time.getTime()) && (
        <time
          className="ng-bell__item-time"
          dir="auto"
          dateTime={created_at}
          title={time.toLocaleString(locale)}
        >
          {formatTime(time)}
        </time>
      )}
    </>
  );
}

const CIRCLE = 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z';
/** What an entry's sign is drawn of; an app's own types have that of `info`. */
const SIGNS: Readonly<Record<string, string>> = {
  success: `${CIRCLE}m-4 9.5 2.7 2.7L16 9.5`,
  warning: 'M12 4 2.8 20h18.4L12 4Zm0 6v4.5m0 2.6v.1',
  error: `${CIRCLE}m0 4.5v5.5m0 3.2v.1`,
};

function TypeIcon({
  type,
  label,
}: {
  readonly type: string;
  readonly label: string;
}): ReactElement {
  const sign = SIGNS[type] ?? `${CIRCLE}m0 4.7v.1m0 3.4v5.3`;
  return (
    <svg className="ng-bell__type" viewBox="0 0 24 24" role="img" aria-label={label}>
      <path d={sign} />
    </svg>
  );
}

function BellIcon(): ReactElement {
  return (
    <svg className="ng-bell__icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d="M12 3.5a5.8 5.8 0 0 0-5.8 5.8c0 5.7-2.4 7.4-2.4 7.4h16.4s-2.4-1.7-2.4-7.4A5.8 5.8 0 0 0 12 3.5ZM10 20.2a2.2 2.2 0 0 0 4 0" />
    </svg>
  );
}

/** Moves among the entries as in any list; false for a key that does not. */
function moveFocus(panel: HTMLElement | null, key: string): boolean {
  const items = [...(panel?.querySelectorAll<HTMLElement>('[data-item]') ?? [])];
  const at = items.findIndex((item) => item.matches(':focus'));
  const to = {
    ArrowDown: Math.min(at + 1, items.length - 1),
    ArrowUp: Math.max(at - 1, 0),
    Home: 0,
    End: items.length - 1,
  }[key];
  if (to === undefined) return false;
  items[to]?.focus();
  return true;
}
