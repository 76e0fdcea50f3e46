import { useEffect, useRef } from 'react';
import type { NotificationClient } from '../client.js';

/** What sonner's `toast` is, and any toaster can be made to look like. */
export interface Toaster {
  success(title: string, options: ToastOptions): unknown;
  error(title: string, options: ToastOptions): unknown;
}

/** What a toast comes with. */
export interface ToastOptions {
  /** The notification's: a toaster that knows it shows it once. */
  readonly id: string;
  /** The notification's message. */
  readonly description: string;
}

/** Shows what has succeeded or failed, on the page that is looked at. */
export function useToasts(client: NotificationClient, toast: Toaster | undefined): void {
  const latest = useRef(toast);
  useEffect(() => {
    latest.current = toast;
  });
  useEffect(
    () =>
      client.subscribe((arrived) => {
        // In a hidden tab it would wait and then tell old news.
        if (!arrived || document.hidden) return;
        const { id, type, title, message } = arrived;
        const options = { id, description: message };
        if (type === 'success') latest.current?.success(title, options);
        if (type === 'error') latest.current?.error(title, options);
      }),
    [client],
  );
}
