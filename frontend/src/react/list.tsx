import {
  type KeyboardEvent,
  type MouseEvent,
  type ReactElement,
  type ReactNode,
  useEffect,
  useRef,
  useState,
} from 'react';
import type { NotificationClient } from '../client.js';
import type { NotificationRow } from '../notification.js';
import { Entry } from './entry.js';
import { useClientEvents, useNotifications } from './hooks.js';
import { type BellLabels, ENGLISH } from './labels.js';
import { useProvided } from './provider.js';
import { knownLocale, relativeTime, useIsHydrated, useMinute } from './time.js';
import { warn } from '../warn.js';

/** Bundlers put the mode in its place. */
declare const process: { readonly env: { readonly NODE_ENV?: string } };

/** How long a failure is told. */
const FAILED_MS = 8_000;
/** More than are seen to come at once. */
const MAX_ARRIVED = 100;

/** What can be changed about a list. */
export interface NotificationListProps {
  readonly className?: string | undefined;
  readonly labels?: Partial<BellLabels> | undefined;
  /** `compact` shows more of them: one line of each message, and less room around it. */
  readonly density?: 'comfortable' | 'compact' | undefined;
  /** The language of times, as in `de-CH`; the browser's by default. */
  readonly locale?: string | undefined;
  /** `created_at` for the reader; "3 min. ago" by default, told anew while it is seen. */
  readonly formatTime?: ((time: Date) => string) | undefined;
  /** Where an entry leads: it is a link then, and a button where this gives nothing. */
  readonly getHref?: ((notification: NotificationRow) => string | null | undefined) | undefined;
  /**
   * An entry was chosen, and has been marked as read. A router of the app goes where the
   * entry leads and calls `event.preventDefault()`.
   */
  readonly onSelect?: ((notification: NotificationRow, event: MouseEvent) => void) | undefined;
  /** The head of the list, which `standard` is unless this changes it. */
  readonly renderHeader?: ((standard: ReactNode) => ReactNode) | undefined;
  /** What an entry shows; links and buttons in it work. */
  readonly renderItem?: ((notification: NotificationRow) => ReactNode) | undefined;
  /** What can be done to an entry: `standard` is what the app's API has. */
  readonly renderActions?:
    ((notification: NotificationRow, standard: ReactNode) => ReactNode) | undefined;
  /** In the place of the words for an empty list. */
  readonly empty?: ReactNode;
  /** Under the list: a link to all of them, say. */
  readonly footer?: ReactNode;
}

/**
 * The newest notifications, as the bell shows them, for a page or a sidebar of their own.
 *
 * Looks are those of `@notify-gateway/client/style.css`, which it needs.
 */
export function NotificationList(props: NotificationListProps): ReactElement {
  const { className = '', density = 'comfortable', onSelect } = props;
  const locale = knownLocale(props.locale);
  const labels = { ...ENGLISH, ...props.labels };
  const { client } = useProvided();
  const { notifications, isLoaded, isLoading, hasMore, isFetchingMore, error, ...act } =
    useNotifications();
  const root = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLUListElement>(null);
  const come = useArrivals(client, list, notifications);
  const failed = useFailed(client);
  const now = useMinute();
  const isHydrated = useIsHydrated();
  const formatTime = (time: Date, created_at: string): string => {
    if (!isHydrated) return created_at.slice(0, 10);
    return props.formatTime?.(time) ?? relativeTime(time, now, locale);
  };
  const { unseenCount } = act;
  useEffect(() => {
    if (unseenCount === 0 || document.hidden) return undefined;
    // A burst of them is one call.
    const timer = setTimeout(() => {
      client.markAllAsSeen().catch(() => undefined);
    }, 300);
    return () => {
      clearTimeout(timer);
    };
  }, [client, unseenCount]);

  useEffect(() => {
    // A test's DOM knows nothing of style sheets.
    if (process.env.NODE_ENV === 'production' || typeof CSS === 'undefined') return;
    if (!root.current) return;
    if (getComputedStyle(root.current).getPropertyValue('--ng-surface') === '') {
      warn(undefined, "the style sheet is missing: import '@notify-gateway/client/style.css'");
    }
  }, []);

  const select = (notification: NotificationRow, event: MouseEvent): void => {
    // A mark that fails is undone by the next poll, and `onError` has been told.
    if (notification.status === 'unread') act.markAsRead(notification.id).catch(() => undefined);
    // A link that is opened in another tab, or saved.
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    onSelect?.(notification, event);
  };
  const standard = (
    <Header
      labels={labels}
      onMarkAll={() => {
        // The button goes away with what it has done; the focus must not go with it.
        root.current?.focus();
        client.markAllAsRead().catch(() => undefined);
      }}
    />
  );
  return (
    <div
      ref={root}
      className={`ng-list ${className}`.trim()}
      data-density={density}
      aria-busy={isLoading}
      tabIndex={-1}
      onKeyDown={(event: KeyboardEvent) => {
        // The app's own fields have their own use for arrows.
        if ((event.target as Element).matches('input, textarea, select')) return;
        if (moveFocus(root.current, event.key)) event.preventDefault();
      }}
    >
      <div className="ng-bell__header">{props.renderHeader?.(standard) ?? standard}</div>
      {failed && (
        <p className="ng-bell__error" role="alert">
          {labels.actionFailed}
        </p>
      )}
      {error !== null && (
        <p className="ng-bell__error" role="alert">
          {labels.error}{' '}
          <button type="button" className="ng-bell__again" onClick={act.refresh}>
            {labels.tryAgain}
          </button>
        </p>
      )}
      {notifications.length === 0 && error === null && (
        <div className="ng-bell__empty">
          {isLoaded ? (props.empty ?? labels.empty) : isLoading ? labels.loading : labels.error}
        </div>
      )}
      {come.above > 0 && (
        <button type="button" className="ng-bell__new" onClick={come.show}>
          {labels.newAbove(come.above)}
        </button>
      )}
      <ul
        ref={list}
        // Safari takes a list without marks for none.
        role="list"
        className="ng-bell__list"
        hidden={notifications.length === 0}
        onScroll={come.look}
      >
        {notifications.map((notification) => (
          <Entry
            key={notification.id}
            notification={notification}
            isNew={come.isNew(notification)}
            labels={labels}
            fullTime={(time) => (isHydrated ? time.toLocaleString(locale) : undefined)}
            formatTime={formatTime}
            href={props.getHref?.(notification)}
            renderItem={props.renderItem}
            renderActions={props.renderActions}
            onChoose={select}
          />
        ))}
        {hasMore && (
          <li className="ng-bell__older">
            <button
              type="button"
              className="ng-bell__again"
              aria-disabled={isFetchingMore}
              onClick={act.fetchMore}
            >
              {isFetchingMore ? labels.loading : labels.older}
            </button>
          </li>
        )}
      </ul>
      {props.footer !== undefined && <div className="ng-bell__footer">{props.footer}</div>}
    </div>
  );
}

function Header({
  labels,
  onMarkAll,
}: {
  readonly labels: BellLabels;
  readonly onMarkAll: () => void;
}): ReactElement {
  const { unreadCount, can } = useNotifications();
  return (
    <>
      <span className="ng-bell__title" role="heading" aria-level={2}>
        {labels.title}
        {unreadCount > 0 && (
          <span className="ng-bell__count" aria-hidden="true">
            {unreadCount}
          </span>
        )}
      </span>
      {unreadCount > 0 && can('markAllAsRead') && (
        <button type="button" className="ng-bell__all" onClick={onMarkAll}>
          {labels.markAllAsRead}
        </button>
      )}
    </>
  );
}

/** Whether something that the user did has failed just now. */
function useFailed(client: NotificationClient): boolean {
  const [failed, setFailed] = useState(0);
  useClientEvents(client, (event) => {
    if (event.type === 'error' && event.action) setFailed((before) => before + 1);
  });
  useEffect(() => {
    if (failed === 0) return undefined;
    const timer = setTimeout(setFailed, FAILED_MS, 0);
    return () => {
      clearTimeout(timer);
    };
  }, [failed]);
  return failed > 0;
}

/** Which have come while the list was there, and how many of them above the part that is seen. */
function useArrivals(
  client: NotificationClient,
  list: { readonly current: HTMLUListElement | null },
  notifications: readonly NotificationRow[],
): {
  readonly isNew: (notification: NotificationRow) => boolean;
  readonly above: number;
  readonly look: () => void;
  readonly show: () => void;
} {
  const [arrived, setArrived] = useState<readonly string[]>([]);
  const [unlooked, setUnlooked] = useState<readonly string[]>([]);
  const isAtTop = (): boolean => (list.current?.scrollTop ?? 0) < 8;
  useClientEvents(client, (event) => {
    if (event.type !== 'notification') return;
    const { id } = event.notification;
    const add = (ids: readonly string[]): string[] => [...ids, id].slice(-MAX_ARRIVED);
    setArrived(add);
    if (!isAtTop()) setUnlooked(add);
  });
  return {
    isNew: ({ id }) => arrived.includes(id),
    // What was deleted since is no longer there.
    above: notifications.filter(({ id }) => unlooked.includes(id)).length,
    look: () => {
      if (isAtTop()) setUnlooked([]);
    },
    show: () => {
      list.current?.scrollTo({ top: 0 });
      list.current?.querySelector<HTMLElement>('[data-item]')?.focus({ preventScroll: true });
    },
  };
}

/** Moves among the entries as in any list; false for a key that does not. */
function moveFocus(root: HTMLElement | null, key: string): boolean {
  const items = [...(root?.querySelectorAll<HTMLElement>('[data-item]') ?? [])];
  const at = items.findIndex((item) => item.closest('.ng-bell__entry:focus-within'));
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
