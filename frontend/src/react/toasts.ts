import { useEffect, useRef } from 'react';
import type { NotificationClient } from '../client.js';
import type { Arrival, NotificationRow } from '../notification.js';

/** What sonner's `toast` is, and any toaster can be made to look like. */
export interface Toaster {
  success(title: string, options: ToastOptions): unknown;
  error(title: string, options: ToastOptions): unknown;
  /** Takes one away, shown or not yet: those of a user who is no longer logged in. */
  dismiss?(id: string): unknown;
}

/** What a toast comes with. */
export interface ToastOptions {
  /** The notification's: a toaster that knows it shows it once, as it was given last. */
  readonly id: string;
  /** The notification's message. */
  readonly description: string;
}

/** What the toast of many says. */
export type ToastMany = (count: number) => string;

/** Toasts that may still be on the screen; a toaster shows fewer. */
const MAX_SHOWN = 50;
/** So many in a row have a toast each; those that follow share one. */
const MAX_BURST = 3;
/** A pause of this length ends a row. */
const BURST_MS = 5_000;

/**
 * Whether a notification has a toast: what has succeeded or failed just now, in the one tab
 * that speaks for the browser, and only while it is looked at: a toast in a hidden tab would
 * wait and then tell old news.
 */
export function isToasted(
  client: Pick<NotificationClient, 'getState'>,
  { type }: NotificationRow,
  { live }: Arrival,
): boolean {
  const isImportant = type === 'success' || type === 'error';
  return isImportant && live && client.getState().isLeading && !document.hidden;
}

/** Shows toasts until it is told to end, when it takes away those that may still be seen. */
export function showToasts(
  client: NotificationClient,
  toaster: () => Toaster | undefined,
  many: ToastMany,
): () => void {
  let shown: string[] = [];
  let { session } = client.getState();
  let lastAt = -Infinity;
  let burst: NotificationRow[] = [];

  const dismiss = (): void => {
    for (const id of shown) toaster()?.dismiss?.(id);
    shown = [];
    burst = [];
  };
  const show = (type: 'success' | 'error', title: string, options: ToastOptions): void => {
    toaster()?.[type](title, options);
    shown = [...shown.filter((id) => id !== options.id), options.id].slice(-MAX_SHOWN);
  };
  const unsubscribe = client.subscribe((event) => {
    if (session !== client.getState().session) dismiss();
    ({ session } = client.getState());
    if (event?.type !== 'notification') return;
    const { notification, arrival } = event;
    if (!isToasted(client, notification, arrival)) return;
    if (Date.now() - lastAt > BURST_MS) burst = [];
    lastAt = Date.now();
    burst.push(notification);
    const { id, type, title, message } = notification;
    const rest = burst.slice(MAX_BURST);
    if (rest.length === 0) {
      show(type as 'success' | 'error', title, { id, description: message });
    } else {
      const isBad = rest.some((other) => other.type === 'error');
      const first = rest[0] ?? notification;
      show(isBad ? 'error' : 'success', many(rest.length), { id: first.id, description: '' });
    }
  });
  return () => {
    unsubscribe();
    dismiss();
  };
}

/** {@link showToasts} while the component is mounted. */
export function useToasts(
  client: NotificationClient,
  toaster: Toaster | undefined,
  many: ToastMany | undefined,
): void {
  const latest = useRef({ toaster, many });
  useEffect(() => {
    latest.current = { toaster, many };
  });
  useEffect(
    () =>
      showToasts(
        client,
        () => latest.current.toaster,
        (count) => latest.current.many?.(count) ?? `${count} more notifications`,
      ),
    [client],
  );
}
