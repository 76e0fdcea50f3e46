/** What `onError` is told when the stream's address answers with anything but a stream, again and again. */
export class StreamRefusedError extends Error {
  override readonly name = 'StreamRefusedError';

  constructor(
    /** What was asked for. */
    readonly url: string,
    /** The answer's status; its body says more where it comes from the gateway. */
    readonly status: number,
  ) {
    super(`${url} answers ${status}: is it the gateway’s stream, and does the proxy pass it on?`);
  }
}
