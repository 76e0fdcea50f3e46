import { type ReactElement, useRef, useSyncExternalStore } from 'react';
import { useNotificationSSE, useOncePerBrowser } from '../src/react/index.js';
import { useOpened } from './opened.js';
import type { Watch } from './watch.js';

/** From so many failures in a row on, the waits are long enough to be cut short by hand. */
const MANY_FAILURES = 3;

/** Whether rows arrive as they are committed, and if not, why. */
export function StreamState(props: { readonly name: string; readonly watch: Watch }): ReactElement {
  const { name, watch } = props;
  const { status, reason, failures, retry } = useNotificationSSE();
  const isLeading = useOncePerBrowser();
  const last = useSyncExternalStore(watch.subscribe, watch.last);
  const isAgain = useOpened() > (status === 'open' ? 1 : 0);
  const box = useRef<HTMLDivElement>(null);

  const trying = isAgain || failures > 0 ? 'Reconnecting' : 'Connecting';
  const label = {
    connecting: trying,
    waiting: trying,
    open: 'Live',
    polling: 'Polling',
    stopped: 'Stopped',
  }[status];
  const closed = last?.name === 'closing' ? last.reason : '';
  const more = status === 'open' ? streams(isLeading, last?.streams) : (reason ?? closed);
  const isTelling = status === 'stopped' || (status === 'open' && isAgain);
  const canRetry = status === 'stopped' || status === 'polling' || failures >= MANY_FAILURES;
  return (
    <div ref={box} className="state" tabIndex={-1} data-state={label.toLowerCase()}>
      <span className="dot" />
      <span className="label">{label}</span>
      <span className="more">{more.replaceAll('_', ' ')}</span>
      {canRetry && (
        <button
          type="button"
          className="plain retry"
          aria-label={`Retry the stream of ${name}`}
          onClick={() => {
            // The button goes away where it helps; the focus must not go with it.
            box.current?.focus({ preventScroll: true });
            retry();
          }}
        >
          Retry
        </button>
      )}
      <span className="sr-only" role="status">
        {isTelling && `${name}: stream ${label.toLowerCase()}`}
      </span>
    </div>
  );
}

function streams(isLeading: boolean, count: number | null | undefined): string {
  if (!isLeading) return 'through another tab';
  if (count == null) return '';
  return `${count} ${count === 1 ? 'stream' : 'streams'} open`;
}
