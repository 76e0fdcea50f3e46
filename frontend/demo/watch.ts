import { type SseEvent, type Transport, fetchTransport } from '../src/index.js';

/** The last that came over a user's stream. */
export interface LastEvent {
  readonly name: string;
  /** Why the gateway closes, or cannot tell what was missed; else empty. */
  readonly reason: string;
  /** How many streams the user has open, where an event has said so. */
  readonly streams: number | null;
  readonly at: Date;
}

/** A transport, and what passes through it. */
export interface Watch {
  readonly transport: Transport;
  readonly subscribe: (listener: () => void) => () => void;
  /** Null before the first event of this tab; tabs that follow another see none. */
  readonly last: () => LastEvent | null;
}

/** Watches the package's own transport: the page shows more of the wire than an app needs. */
export function watchStream(): Watch {
  const listeners = new Set<() => void>();
  const inner = fetchTransport();
  let last: LastEvent | null = null;
  const note = ({ name, data }: SseEvent): void => {
    const { reason, connections } = read(data);
    last = {
      name,
      reason: typeof reason === 'string' ? reason.replaceAll('_', ' ') : '',
      streams: typeof connections === 'number' ? connections : (last?.streams ?? null),
      at: new Date(),
    };
    for (const listener of listeners) listener();
  };
  return {
    transport: {
      open: (request, sink) =>
        inner.open(request, {
          ...sink,
          event(event) {
            note(event);
            sink.event(event);
          },
        }),
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
    last: () => last,
  };
}

function read(data: string): { readonly reason?: unknown; readonly connections?: unknown } {
  try {
    return Object(JSON.parse(data)) as object;
  } catch {
    return {};
  }
}
