import { type ReactElement, useState } from 'react';
import { useNotificationSSE } from '../src/react/index.js';
import { Notice } from './notice.js';

/** What the visitor did to a notification and the application has refused. */
export function Failure(): ReactElement | null {
  const [failure, setFailure] = useState<unknown>(null);
  useNotificationSSE({
    onError(error, action) {
      // The list itself shows that it cannot be fetched.
      if (action) setFailure(error);
    },
  });
  if (failure === null) return null;
  return (
    <Notice error={failure}>
      <button
        type="button"
        className="plain"
        onClick={() => {
          setFailure(null);
        }}
      >
        Close
      </button>
    </Notice>
  );
}
