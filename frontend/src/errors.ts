/** What went wrong, as the gateway puts it: https://www.rfc-editor.org/rfc/rfc9457 */
export interface ProblemDocument {
  readonly type?: string;
  readonly title?: string;
  readonly status?: number;
  /** In words a developer can act on. */
  readonly detail?: string;
}

/** What `onError` is told where the fault lies in the set-up. */
export class NotificationClientError extends Error {
  override readonly name = 'NotificationClientError';

  constructor(
    /**
     * `stream_refused`: three times in a row, the stream's address has answered with
     * something other than a stream. `api_answer`: the app's API did not give a list or a count.
     */
    readonly kind: 'stream_refused' | 'api_answer',
    message: string,
    /** The status of the answer, where there was one. */
    readonly status?: number,
    /** The body of the answer, where the gateway itself has given it. */
    readonly problem?: ProblemDocument,
  ) {
    super(message);
  }
}
