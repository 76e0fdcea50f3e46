import { createSseParser } from './sse.js';
import { type StreamRequest, type StreamSink, type Transport, refuse } from './transport.js';

/**
 * The default: `fetch` with `Authorization: Bearer …` and `Last-Event-ID`.
 *
 * Without a `token` option it sends cookies alone; `credentials: 'include'`
 * makes it send them to another origin too.
 */
export function fetchTransport(options: { credentials?: RequestCredentials } = {}): Transport {
  return {
    open(request, sink) {
      const controller = new AbortController();
      stream(request, { ...options, signal: controller.signal }, sink).catch(sink.ended);
      return () => {
        controller.abort();
      };
    },
  };
}

async function stream(
  { url, cursor, token }: StreamRequest,
  init: RequestInit,
  sink: StreamSink,
): Promise<void> {
  const headers: Record<string, string> = { accept: 'text/event-stream' };
  if (token) headers['authorization'] = `Bearer ${token}`;
  if (cursor) headers['last-event-id'] = cursor;
  const response = await fetch(url, { ...init, headers, cache: 'no-store' });
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream');
  if (response.status !== 200 || !isStream || !response.body) {
    refuse(response, sink);
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
