/** What {@link ClientOptions.onError} is told when the stream's address answers with anything but a stream, again and again. */
export class StreamRefusedError extends Error {
  override readonly name = 'StreamRefusedError';

  constructor(
    /** What was asked for. */
    readonly url: string,
    /** The answer's status. */
    readonly status: number,
  ) {
    super(`${url} answers ${status} and brings no stream: ${HINTS[status] ?? HINT}`);
  }
}

const HINT = 'is `url` the address of the gateway’s stream?';
const HINTS: Readonly<Record<number, string>> = {
  400: 'the gateway does not understand the request; its answer says why',
  403: 'the gateway, or a proxy before it, does not let this origin or this user in',
  404: 'is `url` the gateway’s `/api/notifications/stream`, and does the proxy pass it on?',
  405: 'something else answers there; is `url` the address of the gateway’s stream?',
};
