import { useEffect } from 'react';
import type { NotificationClient } from '../client.js';

/**
 * Closes the stream while `isWanted` is false, and has the client poll after so many failures.
 * What is undefined stays as it is.
 */
export function useStreamSettings(
  { connect, disconnect, setMaxReconnectAttempts }: NotificationClient,
  isWanted: boolean | undefined,
  maxReconnectAttempts: number | undefined,
): void {
  useEffect(() => {
    if (isWanted !== false) return undefined;
    disconnect();
    return connect;
  }, [isWanted, connect, disconnect]);
  useEffect(() => {
    if (maxReconnectAttempts !== undefined) setMaxReconnectAttempts(maxReconnectAttempts);
  }, [maxReconnectAttempts, setMaxReconnectAttempts]);
}
