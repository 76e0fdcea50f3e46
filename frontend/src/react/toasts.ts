import { useEffect, useRef } from 'react';
import type { NotificationClient } from '../client.js';

/** What sonner's `toast` is, and any toaster can be made to look like. */
export interface Toaster {
  success(title: string, options: ToastOptions): unknown;
  error(title: string, options: ToastOptions): unknown;
  /** Takes one away, shown or not yet: those of a user who is no longer logged in. */
  dismiss?(id: string): unknown;
}

/** What a toast comes with. */
export interface ToastOptions {
  /** The notification's: a toaster that knows it shows it once. */
  readonly id: string;
  /** The notification's message. */
  readonly description: string;
}

/** Toasts that may still be on the screen; a toaster shows fewer. */
const MAX_SHOWN = 50;

/** Shows what has succeeded or failed, on the page that is looked at. */
export function useToasts(client: NotificationClient, toast: Toaster | undefined): void {
  const latest = useRef(toast);
  useEffect(() => {
    latest.current = toast;
  });
  useEffect(() => {
    const shown: string[] = [];
    let { session } = client.getState();
    const dismiss = (): void => {
      for (const id of shown.splice(0)) latest.current?.dismiss?.(id);
    };
    const unsubscribe = client.subscribe((arrived, arrival) => {
      if (session !== client.getState().session) dismiss();
      ({ session } = client.getState());
      // In a hidden tab it would wait and then tell old news.
      if (!arrived || arrival?.live === false || document.hidden) return;
      const { id, type, title, message } = arrived;
      const options = { id, description: message };
      if (type === 'success') latest.current?.success(title, options);
      else if (type === 'error') latest.current?.error(title, options);
      else return;
      shown.push(id);
      if (shown.length > MAX_SHOWN) shown.shift();
    });
    return () => {
      unsubscribe();
      dismiss();
    };
  }, [client]);
}
