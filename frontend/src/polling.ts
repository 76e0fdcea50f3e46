/** When to poll, and when the stream may have brought what a poll has counted. */

/** While the stream is open, polls only see what has been read elsewhere. */
const STREAMING_INTERVAL_MS = 60_000;
/** Without a stream they are all there is. */
const INTERVAL_MS = 30_000;
/** Right after a failure, of the stream or of a poll: the moment rows are missed. */
const AFTER_FAILURE_MS = 10_000;
/** How long the first poll waits for the stream's answer, so that one poll does for both. */
const FIRST_POLL_MS = 500;

/**
 * A row committed before a count was read reaches an open stream within about a
 * second, within this for sure.
 */
const LATEST_MS = 5_000;
/** A burst of doubtful rows is settled by one poll, this long after its first. */
const RECOUNT_DELAY_MS = 1_000;
/** A user whose rows never stop must not have the page poll without pause. */
const RECOUNT_SPACING_MS = 5_000;

/** What the next poll depends on. Times are in milliseconds; infinite for what never was. */
export interface Schedule {
  readonly startedAt: number;
  /** When the last poll began. */
  readonly polledAt: number;
  /** A poll has to begin as soon as one can. */
  readonly isWanted: boolean;
  readonly isStreaming: boolean;
  /** When the stream failed last, or the first in a row of polls. */
  readonly failedAt: number;
  /** When a row came first that may be in the count already. */
  readonly doubtedAt: number;
  /** When a poll last began because of such a row. */
  readonly recountedAt: number;
}

/** Nothing has happened yet. */
export const UNSCHEDULED: Schedule = {
  startedAt: 0,
  polledAt: -Infinity,
  isWanted: false,
  isStreaming: false,
  failedAt: -Infinity,
  doubtedAt: Infinity,
  recountedAt: -Infinity,
};

/** When the next poll is due. `random` in [0, 1) makes it up to a tenth sooner. */
export function pollDueAt(schedule: Schedule, random: number): number {
  const { startedAt, polledAt, isWanted, isStreaming, failedAt, doubtedAt, recountedAt } = schedule;
  if (isWanted) return -Infinity;
  if (polledAt === -Infinity) return startedAt + FIRST_POLL_MS;
  // A failure meets everybody in the same instant; their polls need not.
  const spread = 1 - random / 10;
  return Math.min(
    polledAt + (isStreaming ? STREAMING_INTERVAL_MS : INTERVAL_MS) * spread,
    failedAt < polledAt ? Infinity : failedAt + AFTER_FAILURE_MS * spread,
    Math.max(doubtedAt + RECOUNT_DELAY_MS, recountedAt + RECOUNT_SPACING_MS),
  );
}

/**
 * Whether a row that arrives now, and that the last list did not show, may be in
 * the last count: it was only just counted, or the stream is only just open and
 * replays what was committed while there was none.
 */
export function mayBeCounted(now: number, countedAt: number, openedAt: number): boolean {
  return countedAt > -Infinity && now - Math.max(countedAt, openedAt) < LATEST_MS;
}
