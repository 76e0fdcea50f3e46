import { useState } from 'react';
import { useNotificationSSE } from '../src/react/index.js';

/** How often the stream has come to be open, in this tab or in the one that has it. */
export function useOpened(): number {
  const { status } = useNotificationSSE();
  const [known, setKnown] = useState({ status, opened: 0 });
  if (known.status !== status) {
    setKnown({ status, opened: known.opened + (status === 'open' ? 1 : 0) });
  }
  return known.opened;
}
