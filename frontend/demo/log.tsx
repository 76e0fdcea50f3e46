import { type ReactElement, useState, useSyncExternalStore } from 'react';
import { useNotificationSSE } from '../src/react/index.js';
import { useOpened } from './opened.js';
import type { Watch } from './watch.js';

const clock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });

/** One line of what goes on under the bell. */
export function Log(props: { readonly watch: Watch; readonly took: number | null }): ReactElement {
  const { watch, took } = props;
  const last = useSyncExternalStore(watch.subscribe, watch.last);
  // What another tab's stream has brought does not pass through this tab's own.
  const [arrivedAt, setArrivedAt] = useState<Date | null>(null);
  useNotificationSSE(() => {
    setArrivedAt(new Date());
  });
  const reconnects = Math.max(useOpened() - 1, 0);
  const isLater = arrivedAt !== null && (last === null || arrivedAt > last.at);
  const event = isLater ? { name: 'notification', reason: '', at: arrivedAt } : last;
  return (
    <dl className="log">
      <div>
        <dt>Last event</dt>
        <dd>
          {event === null
            ? 'none'
            : `${event.name}${event.reason && ` (${event.reason})`}, ${clock.format(event.at)}`}
        </dd>
      </div>
      <div>
        <dt>Insert to arrival</dt>
        <dd>{took === null ? 'not measured' : `${took.toFixed(took < 10 ? 1 : 0)} ms`}</dd>
      </div>
      <div>
        <dt>Reconnects</dt>
        <dd>{reconnects}</dd>
      </div>
    </dl>
  );
}
