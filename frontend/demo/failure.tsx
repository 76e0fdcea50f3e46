import { type ReactElement, useState } from 'react';
import { useNotificationClient, useNotificationSSE } from '../src/react/index.js';
import { Notice } from './notice.js';

/** What the visitor did to a notification and the application has refused. */
export function Failure(): ReactElement | null {
  const client = useNotificationClient();
  const [failure, setFailure] = useState<unknown>(null);
  useNotificationSSE({
    onError(error) {
      // The list itself shows that it cannot be fetched.
      if (client.getState().error !== error) setFailure(error);
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
