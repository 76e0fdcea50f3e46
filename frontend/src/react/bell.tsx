import { type ReactElement, type ReactNode, useEffect, useId, useRef, useState } from 'react';
import { useClientEvents, useClientState } from './hooks.js';
import { BellIcon } from './icons.js';
import { ENGLISH } from './labels.js';
import { NotificationList, type NotificationListProps } from './list.js';
import { type Placement, usePosition } from './position.js';
import { useProvided } from './provider.js';
import { isToasted } from './toasts.js';

/** What was said, to those who hear it: each is an element of its own, so that no two are one. */
interface Announcement {
  readonly key: number;
  /** In which session. */
  readonly of: number;
  readonly words: string;
}

const MAX_ANNOUNCED = 10;

/** What can be changed about the bell, and about the list behind it. */
export interface NotificationBellProps extends NotificationListProps {
  /** In place of the drawn bell. */
  readonly icon?: ReactNode;
  /** What the badge counts: all that are unread, or those of them that came since the panel was open last. */
  readonly count?: 'unread' | 'unseen' | undefined;
  /** Whether the panel is open, where the page decides it; without it the bell does. */
  readonly open?: boolean | undefined;
  /** The panel wants to open or close. */
  readonly onOpenChange?: ((isOpen: boolean) => void) | undefined;
  /** `bottom-end` by default; wherever it is, the panel stays in the window. */
  readonly placement?: Placement | undefined;
  /** `false` leaves the panel open when an entry is chosen. */
  readonly closeOnSelect?: boolean | undefined;
}

/**
 * A bell with a badge, and the newest notifications behind it.
 *
 * Looks are those of `@notify-gateway/client/style.css`, which it needs; its `--ng-…` variables
 * and `ng-bell…` classes may be overridden.
 */
export function NotificationBell(props: NotificationBellProps): ReactElement {
  const { className = '', icon, count = 'unread', placement = 'bottom-end' } = props;
  const { open, onOpenChange, closeOnSelect = true, ...listProps } = props;
  const labels = { ...ENGLISH, ...props.labels };
  const { client, hasToasts } = useProvided();
  // What was announced, and opened, for another user is of no concern to this one.
  const session = useClientState(client, 'session');
  const unseenCount = useClientState(client, 'unseenCount');
  const unreadCount = useClientState(client, 'unreadCount');
  const isUnseen = count === 'unseen';
  const shownCount = isUnseen ? unseenCount : unreadCount;
  const [announced, setAnnounced] = useState<readonly Announcement[]>([]);
  const [openedIn, setOpenedIn] = useState<number | null>(null);
  const isOpen = open ?? openedIn === session;
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  const panelId = useId();
  useClientEvents(client, (event) => {
    if (event.type !== 'notification') return;
    const { notification, arrival } = event;
    // A toast is read out itself.
    if (hasToasts && isToasted(client, notification, arrival)) return;
    // As it is now: words that changed with the count would be said again.
    const words = labels.announcement(notification, client.getState().unreadCount);
    setAnnounced((before) => {
      const key = (before.at(-1)?.key ?? 0) + 1;
      return [...before.slice(1 - MAX_ANNOUNCED), { key, of: session, words }];
    });
  });
  const setIsOpen = (is: boolean): void => {
    setOpenedIn(is ? session : null);
    if (is !== isOpen) onOpenChange?.(is);
  };
  const latestSetIsOpen = useRef(setIsOpen);
  useEffect(() => {
    latestSetIsOpen.current = setIsOpen;
  });
  usePosition(button, panel, isOpen, placement);
  useEffect(() => {
    const anchor = root.current;
    if (!isOpen || !anchor) return;
    panel.current?.querySelector<HTMLElement>('.ng-list')?.focus({ preventScroll: true });
    const closeOutside = (event: Event): void => {
      // Through shadow roots too.
      if (!event.composedPath().includes(anchor)) latestSetIsOpen.current(false);
    };
    const closeByKey = (event: KeyboardEvent): void => {
      // The focus is on the page itself where what had it is gone.
      const isHere = event.target === document.body || event.composedPath().includes(anchor);
      if (event.key !== 'Escape' || !isHere) return;
      event.stopPropagation();
      latestSetIsOpen.current(false);
      button.current?.focus();
    };
    document.addEventListener('keydown', closeByKey, true);
    document.addEventListener('pointerdown', closeOutside);
    document.addEventListener('focusin', closeOutside);
    return () => {
      document.removeEventListener('keydown', closeByKey, true);
      document.removeEventListener('pointerdown', closeOutside);
      document.removeEventListener('focusin', closeOutside);
    };
  }, [isOpen]);

  const close = (): void => {
    setIsOpen(false);
    button.current?.focus();
  };

  return (
    <div
      ref={root}
      className={`ng-bell ${className}`.trim()}
      data-state={isOpen ? 'open' : 'closed'}
    >
      <button
        ref={button}
        type="button"
        className="ng-bell__button"
        aria-label={(isUnseen ? labels.buttonUnseen : labels.button)(shownCount)}
        aria-haspopup="dialog"
        aria-expanded={isOpen}
        aria-controls={isOpen ? panelId : undefined}
        onClick={() => {
          setIsOpen(!isOpen);
        }}
      >
        {icon ?? <BellIcon />}
        {shownCount > 0 && (
          // Another key with each number makes it appear anew, which the style
          // sheet animates.
          <span key={shownCount} className="ng-bell__badge" aria-hidden="true">
            {shownCount > 99 ? '99+' : shownCount}
          </span>
        )}
      </button>
      <span role="status" aria-atomic="false" className="ng-bell__heard">
        {announced.map(({ key, of, words }) => of === session && <span key={key}>{words} </span>)}
      </span>
      {isOpen && (
        <div
          ref={panel}
          id={panelId}
          // In the top layer nothing clips it.
          popover="manual"
          role="dialog"
          aria-label={labels.title}
          className="ng-bell__panel"
        >
          <NotificationList
            {...listProps}
            className={undefined}
            onSelect={(notification, event) => {
              props.onSelect?.(notification, event);
              if (closeOnSelect) close();
            }}
          />
        </div>
      )}
    </div>
  );
}
