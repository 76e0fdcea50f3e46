import type { ProblemDocument } from './errors.js';
import type { SseEvent } from './sse.js';

/** What a transport is asked for. */
export interface StreamRequest {
  readonly url: string;
  /** Where to go on; empty: from now on. */
  readonly cursor: string;
  /** The bearer token, for a transport that sends one. */
  readonly token: string | undefined;
}

/** What a transport tells, in the order in which it happens. */
export interface StreamSink {
  readonly event: (event: SseEvent) => void;
  /** A `retry:` field, in milliseconds. */
  readonly retry: (milliseconds: number) => void;
  /** The stream is over, or none came. */
  readonly ended: () => void;
  /** The answer is something other than a stream. `retryAfter` is in milliseconds. */
  readonly refused: (answer: Refusal) => void;
}

/** An answer other than a stream. */
export interface Refusal {
  readonly status: number;
  /** Milliseconds; 0 where the answer says nothing. */
  readonly retryAfter: number;
  /** What the gateway says about it. */
  readonly problem?: ProblemDocument | undefined;
}

/** A way to open a stream. */
export interface Transport {
  /** Whether the browser sends a cookie, and the token function is only called to renew it. */
  readonly usesCookie?: boolean;
  /** Opens a stream; the function it gives closes it. Told nothing after that. */
  open(request: StreamRequest, sink: StreamSink): () => void;
}

/** The gateway's are a few hundred bytes; a longer one is not read. */
const MAX_PROBLEM_LENGTH = 16 * 1024;

/** Tells the sink that the answer is not a stream, and lets go of its body. */
export async function refuse(response: Response, sink: StreamSink): Promise<void> {
  const { status, headers, body } = response;
  const isProblem = headers.get('content-type')?.startsWith('application/problem+json');
  const length = Number(headers.get('content-length'));
  const isRead = isProblem && length > 0 && length <= MAX_PROBLEM_LENGTH;
  const problem = isRead ? ((await response.json()) as ProblemDocument) : undefined;
  if (!isRead) void body?.cancel();
  sink.refused({ status, retryAfter: retryAfter(headers.get('retry-after'), Date.now()), problem });
}

/**
 * A `Retry-After`, seconds or a date, in milliseconds; 0 where it says nothing.
 *
 * https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
 */
export function retryAfter(header: string | null, now: number): number {
  const seconds = Number(header);
  return Math.max(0, (seconds >= 0 ? seconds * 1000 : Date.parse(header ?? '') - now) || 0);
}
