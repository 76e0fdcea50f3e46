import { useCallback, useRef, useState } from 'react';
import { useNotificationSSE } from '../src/react/index.js';

/** Rows of other writers arrive too, and are never asked for. */
const MOST_ARRIVALS = 100;

/** From the press of a button here to the row's arrival, in milliseconds. */
export function useInsertTime(): {
  readonly took: number | null;
  readonly inserted: (id: string, askedAt: number) => void;
} {
  const [took, setTook] = useState<number | null>(null);
  // The row and the answer to its insert race each other.
  const asked = useRef(new Map<string, number>());
  const arrived = useRef(new Map<string, number>());
  useNotificationSSE(({ id }) => {
    const now = performance.now();
    const askedAt = asked.current.get(id);
    if (askedAt !== undefined) {
      asked.current.delete(id);
      setTook(now - askedAt);
      return;
    }
    arrived.current.set(id, now);
    const [oldest = ''] = arrived.current.keys();
    if (arrived.current.size > MOST_ARRIVALS) arrived.current.delete(oldest);
  });
  const inserted = useCallback((id: string, askedAt: number) => {
    const arrivedAt = arrived.current.get(id);
    if (arrivedAt === undefined) asked.current.set(id, askedAt);
    else setTook(arrivedAt - askedAt);
  }, []);
  return { took, inserted };
}
