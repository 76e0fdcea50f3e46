/** An event as the standard dispatches it. */
export interface SseEvent {
  readonly name: string;
  readonly data: string;
  /** The last `id:` seen on this connection; empty before the first. */
  readonly id: string;
}

/** Where a parser puts what it has read. */
export interface SseHandlers {
  event(event: SseEvent): void;
  /** A `retry:` field, in milliseconds. */
  retry(milliseconds: number): void;
}

/**
 * The most characters of one event, which is otherwise passed over. A server that never ends
 * a line would fill the page's memory; the gateway's rows stay far below.
 */
export const MAX_EVENT_LENGTH = 4 * 1024 * 1024;
/** What is left of a line that is too long: the beginning of a comment. */
const COMMENT = ':';

/**
 * Makes a function that takes bytes, cut anywhere, and gives their events.
 *
 * An event that is too long becomes a `resync` with its id: it is in the app's list, if
 * anywhere, and the stream goes on behind it.
 *
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export function createSseParser(handlers: SseHandlers): (bytes: Uint8Array) => void {
  // Takes one byte order mark away, as the standard wants it.
  const decoder = new TextDecoder();
  /** The beginning of a line whose end has not come. */
  let rest = '';
  /** After a CR at the end of a chunk: an LF that opens the next belongs to it. */
  let isAfterCr = false;
  let name = '';
  /** Each line with an LF before it: an empty `data:` is an event, none at all is not. */
  let data = '';
  let id = '';
  let isTooLong = false;

  const read = (line: string): void => {
    if (line === '') {
      const event = isTooLong
        ? { name: 'resync', data: '{}', id }
        : { name: name || 'message', data: data.slice(1), id };
      const isEvent = isTooLong || data !== '';
      name = data = '';
      isTooLong = false;
      if (isEvent) handlers.event(event);
      return;
    }
    const [, field, value = ''] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (field === 'event') name = value;
    else if (field === 'data' && !isTooLong) data += `\n${value}`;
    else if (field === 'id' && !value.includes('\0')) id = value;
    else if (field === 'retry' && /^[0-9]+$/.test(value)) handlers.retry(Number(value));
  };

  return (bytes) => {
    let text = decoder.decode(bytes, { stream: true });
    if (text === '') return;
    if (isAfterCr && text.startsWith('\n')) text = text.slice(1);
    isAfterCr = text.endsWith('\r');
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = rest + (lines[0] ?? '');
    rest = lines.pop() ?? '';
    lines.forEach(read);
    if (rest.length + data.length > MAX_EVENT_LENGTH) {
      isTooLong = true;
      if (rest.length > data.length) rest = COMMENT;
      data = '';
    }
  };
}
