import { EVENT_NAMES } from './protocol.js';
import { type StreamRequest, type StreamSink, type Transport, refuse } from './transport.js';

/**
 * The browser's own `EventSource`, let in by a cookie that scripts need not
 * see. The `token` option is then called only to have the cookie renewed.
 */
export function eventSourceTransport(): Transport {
  return {
    usesCookie: true,
    open(request, sink) {
      const controller = new AbortController();
      const source = new EventSource(target(request), { withCredentials: true });
      let isClosing = false;
      for (const name of EVENT_NAMES) {
        source.addEventListener(name, ({ data, lastEventId }: MessageEvent<string>) => {
          isClosing = name === 'closing';
          sink.event({ name, data, id: lastEventId });
        });
      }
      source.onerror = () => {
        const isRefused = source.readyState === EventSource.CLOSED;
        if (isClosing && !isRefused) {
          // The gateway has said when to come back, in a field only the
          // browser sees: so the browser does it.
          isClosing = false;
          return;
        }
        source.close();
        if (!isRefused) {
          sink.ended();
          return;
        }
        ask(request.url, controller.signal, sink).catch(sink.ended);
      };
      return () => {
        source.close();
        controller.abort();
      };
    },
  };
}

/** A new `EventSource` can set no header; its cursor goes in the query. */
function target({ url, cursor }: StreamRequest): string {
  const target = new URL(url, location.href);
  if (cursor !== '') target.searchParams.set('last_event_id', cursor);
  return target.href;
}

/**
 * `EventSource` does not say why it was refused. A request that is not for a
 * stream gets the same answer with its status.
 */
async function ask(url: string, signal: AbortSignal, sink: StreamSink): Promise<void> {
  const headers = { accept: 'application/problem+json' };
  const response = await fetch(url, { headers, credentials: 'include', signal, cache: 'no-store' });
  if (response.status === 200) {
    void response.body?.cancel();
    sink.ended();
  } else {
    await refuse(response, sink);
  }
}
