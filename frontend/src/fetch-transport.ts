import { createSseParser } from './sse.js';
import { type StreamRequest, type StreamSink, type Transport, refuse } from './transport.js';

/** What {@link fetchTransport} takes. */
export interface FetchTransportOptions {
  /** `include` sends cookies to another origin too. */
  readonly credentials?: RequestCredentials | undefined;
  /** Sent along with each request, such as what a proxy asks for; a function is called each time. */
  readonly headers?: Record<string, string> | (() => Record<string, string>) | undefined;
  /** In place of the browser's `fetch`. */
  readonly fetch?: typeof globalThis.fetch | undefined;
}

/**
 * The default: `fetch` with `Authorization: Bearer …` and `Last-Event-ID`.
 *
 * Without a `token` option it sends cookies alone.
 */
export function fetchTransport(options: FetchTransportOptions = {}): Transport {
  return {
    open(request, sink) {
      const controller = new AbortController();
      stream(request, options, controller.signal, sink).catch(sink.ended);
      return () => {
        controller.abort();
      };
    },
  };
}

async function stream(
  { url, cursor, token }: StreamRequest,
  { credentials, headers, fetch = globalThis.fetch }: FetchTransportOptions,
  signal: AbortSignal,
  sink: StreamSink,
): Promise<void> {
  const sent = new Headers(typeof headers === 'function' ? headers() : headers);
  sent.set('accept', 'text/event-stream');
  if (token) sent.set('authorization', `Bearer ${token}`);
  if (cursor) sent.set('last-event-id', cursor);
  const response = await fetch(url, {
    headers: sent,
    ...(credentials && { credentials }),
    cache: 'no-store',
    signal,
  });
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream');
  if (response.status !== 200 || !isStream || !response.body) {
    await refuse(response, sink);
    return;
  }
  const feed = createSseParser(sink);
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    feed(value);
  }
  sink.ended();
}
