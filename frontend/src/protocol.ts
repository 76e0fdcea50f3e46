import type { NotificationRow } from './notification.js';
import type { SseEvent } from './sse.js';

/** What the gateway says, by the name of the event. */
export type StreamEvent =
  | {
      readonly name: 'connected';
      /** How long the token is good for from now on, in milliseconds; NaN where it is not said. */
      readonly lifetime: number;
      /** When that was, by the gateway's clock; NaN where it is not said. */
      readonly at: number;
      /** Whose stream it is; empty where it is not said. */
      readonly user: string;
      /** Milliseconds between two heartbeats; NaN where it is not said. */
      readonly heartbeat: number;
    }
  | { readonly name: 'notification'; readonly row: NotificationRow }
  /** `updated`, or, without a row, `deleted`. */
  | { readonly name: 'changed'; readonly id: string; readonly row: NotificationRow | null }
  | { readonly name: 'heartbeat' }
  | { readonly name: 'resync' | 'closing'; readonly reason: string };

/** The names a native `EventSource` has to be told to listen for. */
export const EVENT_NAMES = [
  'connected',
  'notification',
  'updated',
  'deleted',
  'heartbeat',
  'resync',
  'closing',
] as const;

/**
 * The event in what came over the wire, or nothing for one this version does
 * not know or cannot read: it still shows that the stream lives.
 */
export function toStreamEvent({ name, data }: SseEvent): StreamEvent | null {
  const value = parse(data);
  switch (name) {
    case 'heartbeat':
      return { name };
    case 'connected': {
      // Both times are the gateway's: the difference holds however wrong the
      // clock of this machine is. What is no time makes NaN.
      const at = Date.parse(value['timestamp'] as string);
      return {
        name,
        lifetime: Date.parse(value['expires_at'] as string) - at,
        at,
        user: typeof value['user_id'] === 'string' ? value['user_id'] : '',
        heartbeat: Number(value['heartbeat_seconds']) * 1_000,
      };
    }
    case 'resync':
    case 'closing':
      return { name, reason: String(value['reason']) };
    case 'notification':
    case 'updated':
    case 'deleted': {
      // The gateway vouches for the rest; without an id a row could not be told
      // from its own replay.
      if (!['string', 'number'].includes(typeof value['id'])) return null;
      // Keys are text here, whatever the table's are.
      const id = String(value['id']);
      const row = { ...value, id } as unknown as NotificationRow;
      if (name === 'notification') return { name, row };
      return { name: 'changed', id, row: name === 'deleted' ? null : row };
    }
  }
  return null;
}

function parse(text: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(text)) as Record<string, unknown>;
  } catch {
    return {};
  }
}
