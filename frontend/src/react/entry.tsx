import {
  type MouseEvent,
  type ReactElement,
  type ReactNode,
  useEffect,
  useId,
  useRef,
  useState,
} from 'react';
import type { NotificationRow } from '../notification.js';
import { ActionIcon, TypeIcon } from './icons.js';
import type { BellLabels } from './labels.js';
import { useProvided } from './provider.js';

interface EntryProps {
  readonly notification: NotificationRow;
  /** Whether it has just come. */
  readonly isNew: boolean;
  readonly labels: BellLabels;
  readonly fullTime: (time: Date) => string | undefined;
  readonly formatTime: (time: Date, created_at: string) => string;
  readonly href: string | null | undefined;
  readonly renderItem: ((notification: NotificationRow) => ReactNode) | undefined;
  readonly renderActions:
    ((notification: NotificationRow, standard: ReactNode) => ReactNode) | undefined;
  readonly onChoose: (notification: NotificationRow, event: MouseEvent) => void;
}

/**
 * One notification in a list. Its link or button is stretched over all of it, but holds no more
 * than the title: so other links and buttons may stand beside and below.
 */
export function Entry(props: EntryProps): ReactElement {
  const { notification, labels, href, renderItem, renderActions } = props;
  const { title, type, status, id } = notification;
  const contentId = useId();
  // eslint-disable-next-line @typescript-eslint/prefer-nullish-coalescing -- `false` and `''` draw nothing either
  const own = renderItem?.(notification) || null;
  // What the app draws names the entry as a whole; a long message need not be its name.
  const name = own ? contentId : `${contentId}type ${contentId}head`;
  const actions = <Actions notification={notification} labels={labels} describedBy={name} />;
  const control = {
    className: 'ng-bell__item',
    'data-item': '',
    'aria-labelledby': name,
    'aria-describedby': own ? undefined : `${contentId}message`,
    dir: 'auto',
    onClick: (event: MouseEvent) => {
      props.onChoose(notification, event);
    },
    children: own ? null : title.trim() || labels.untitled,
  };
  const item =
    typeof href === 'string' ? (
      <a href={href} {...control} />
    ) : (
      <button type="button" {...control} />
    );
  return (
    <li
      className="ng-bell__entry"
      data-type={type}
      data-status={status}
      data-id={id}
      data-new={props.isNew || undefined}
    >
      {own && item}
      <div id={contentId} className="ng-bell__content">
        {own ?? <Item {...props} id={contentId} item={item} />}
      </div>
      <div className="ng-bell__actions">
        {renderActions ? renderActions(notification, actions) : actions}
      </div>
    </li>
  );
}

/** What an entry shows, unless the app draws it: cut off where it is long, and to be read to its end. */
function Item({
  notification: { type, title, message, created_at, status },
  labels,
  formatTime,
  fullTime,
  id,
  item,
}: EntryProps & { readonly id: string; readonly item: ReactElement }): ReactElement {
  const time = new Date(created_at);
  const box = useRef<HTMLDivElement>(null);
  const [isCut, setIsCut] = useState(false);
  const [isWhole, setIsWhole] = useState(false);
  useEffect(() => {
    const parts = [...(box.current?.querySelectorAll('.ng-bell__item, .ng-bell__message') ?? [])];
    if (isWhole) return;
    setIsCut(parts.some(({ scrollHeight, clientHeight }) => scrollHeight > clientHeight + 1));
  }, [title, message, isWhole]);
  return (
    <>
      <TypeIcon id={`${id}type`} type={type} label={labels.type(type)} />
      <div ref={box} className="ng-bell__text" data-whole={isWhole || undefined}>
        <div id={`${id}head`} className="ng-bell__head">
          {item}
          {status === 'unread' && <span className="ng-bell__heard">{labels.unread}</span>}
          {!Number.isNaN(time.getTime()) && (
            <time className="ng-bell__time" dir="auto" dateTime={created_at} title={fullTime(time)}>
              {formatTime(time, created_at)}
            </time>
          )}
          <span className="ng-bell__dot" aria-hidden="true" />
        </div>
        {message && (
          <div id={`${id}message`} className="ng-bell__message" dir="auto">
            {message}
          </div>
        )}
        {isCut && (
          <button
            type="button"
            className="ng-bell__expand"
            aria-expanded={isWhole}
            onClick={() => {
              setIsWhole(!isWhole);
            }}
          >
            {isWhole ? labels.showLess : labels.showMore}
          </button>
        )}
      </div>
    </>
  );
}

/** What the app's API can do to this one. */
function Actions({
  notification: { id, status },
  labels,
  describedBy,
}: {
  readonly notification: NotificationRow;
  readonly labels: BellLabels;
  readonly describedBy: string;
}): ReactElement {
  const { client } = useProvided();
  const mark = status === 'unread' ? 'markAsRead' : 'markAsUnread';
  return (
    <>
      {([mark, 'archive', 'remove'] as const)
        .filter((action) => client.can(action))
        .map((action) => (
          <button
            key={action === mark ? 'mark' : action}
            type="button"
            className="ng-bell__action"
            data-action={action}
            title={labels[action]}
            aria-label={labels[action]}
            aria-describedby={describedBy}
            onClick={({ currentTarget }) => {
              // The entry goes away with what is done to it; the focus must not go with it.
              if (action !== mark) focusNeighbour(currentTarget);
              // One that fails is undone by the next poll, and `onError` has been told.
              client[action](id).catch(() => undefined);
            }}
          >
            <ActionIcon action={action} />
          </button>
        ))}
    </>
  );
}

function focusNeighbour(within: HTMLElement): void {
  const entry = within.closest('.ng-bell__entry');
  const neighbour = entry?.nextElementSibling ?? entry?.previousElementSibling;
  const item = neighbour?.querySelector<HTMLElement>('[data-item]');
  (item ?? entry?.closest<HTMLElement>('[tabindex]'))?.focus();
}
