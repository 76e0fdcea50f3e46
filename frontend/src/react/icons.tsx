import type { ReactElement } from 'react';
import type { ActionName } from '../api.js';

const CIRCLE = 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z';
/** What an entry's sign is drawn of; an app's own types have that of `info`. */
const SIGNS: Readonly<Record<string, string>> = {
  success: `${CIRCLE}m-4 9.5 2.7 2.7L16 9.5`,
  warning: 'M12 4 2.8 20h18.4L12 4Zm0 6v4.5m0 2.6v.1',
  error: 'M8.4 3h7.2L21 8.4v7.2L15.6 21H8.4L3 15.6V8.4L8.4 3Zm.6 6 6 6m0-6-6 6',
};
const ACTIONS: Partial<Record<ActionName, string>> = {
  markAsRead: 'm5 12.5 4.5 4.5L19 7.5',
  markAsUnread: 'M12 8.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7Z',
  archive: 'M4 8v11h16V8M3 4.5h18V8H3V4.5ZM10 12h4',
  remove: 'M4.5 6.5h15M9.5 6.5V4h5v2.5M6.5 6.5 7.5 20h9l1-13.5M10.5 10.5v5.5m3-5.5v5.5',
};

/** The sign of a notification's type. */
export function TypeIcon(props: {
  readonly id: string;
  readonly type: string;
  readonly label: string;
}): ReactElement {
  return (
    <span id={props.id} className="ng-bell__type" role="img" aria-label={props.label}>
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <path d={SIGNS[props.type] ?? `${CIRCLE}m0 4.7v.1m0 3.4v5.3`} />
      </svg>
    </span>
  );
}

/** The sign of what can be done to an entry. */
export function ActionIcon({ action }: { readonly action: ActionName }): ReactElement {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true">
      <path d={ACTIONS[action]} />
    </svg>
  );
}

/** The bell. */
export function BellIcon(): ReactElement {
  return (
    <svg className="ng-bell__icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d="M12 3.5a5.8 5.8 0 0 0-5.8 5.8c0 5.7-2.4 7.4-2.4 7.4h16.4s-2.4-1.7-2.4-7.4A5.8 5.8 0 0 0 12 3.5ZM10 20.2a2.2 2.2 0 0 0 4 0" />
    </svg>
  );
}
