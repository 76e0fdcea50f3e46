import { describe, expect, test } from 'vitest';
import { type Schedule, mayBeCounted, pollDueAt } from '../../src/polling.js';
import { retryAfter } from '../../src/transport.js';

const polled: Schedule = {
  startedAt: 0,
  polledAt: 100_000,
  isWanted: false,
  isStreaming: false,
  failedAt: -Infinity,
  doubtedAt: Infinity,
  recountedAt: -Infinity,
};
/** Milliseconds after the last poll. */
const due = (schedule: Partial<Schedule>, random = 0): number =>
  pollDueAt({ ...polled, ...schedule }, random) - polled.polledAt;

describe('the next poll', () => {
  test('is due 60 s after the last one while streaming, 30 s while not', () => {
    expect(due({ isStreaming: true })).toBe(60_000);
    expect(due({})).toBe(30_000);
  });

  test('is due 10 s after a failure, once', () => {
    expect(due({ failedAt: 105_000 })).toBe(15_000);
    expect(due({ failedAt: 99_999 })).toBe(30_000);
    expect(due({ failedAt: 125_000 })).toBe(30_000);
  });

  test('is up to a tenth sooner', () => {
    expect(due({}, 0.5)).toBe(28_500);
    expect(due({ isStreaming: true }, 0.5)).toBe(57_000);
    expect(due({ failedAt: 105_000 }, 0.5)).toBe(14_500);
  });

  test('is due at once when it is wanted', () => {
    expect(due({ isWanted: true })).toBe(-Infinity);
  });

  test('the first waits half a second for the stream', () => {
    expect(pollDueAt({ ...polled, polledAt: -Infinity }, 0)).toBe(500);
  });

  test('is due a second after a doubtful row, and five after the last that was due to one', () => {
    expect(due({ isStreaming: true, doubtedAt: 102_000 })).toBe(3_000);
    expect(due({ isStreaming: true, doubtedAt: 102_000, recountedAt: 100_000 })).toBe(5_000);
  });
});

describe('a row may be in the count', () => {
  test('within five seconds of the count and of the opening of the stream', () => {
    expect(mayBeCounted(10_000, 5_001, 0)).toBe(true);
    expect(mayBeCounted(10_000, 5_000, 0)).toBe(false);
    expect(mayBeCounted(10_000, 0, 5_001)).toBe(true);
    expect(mayBeCounted(10_000, 0, 5_000)).toBe(false);
  });

  test('but not before there has been a count', () => {
    expect(mayBeCounted(10_000, -Infinity, 9_999)).toBe(false);
  });
});

test.each([
  ['3', 3_000],
  ['0', 0],
  [null, 0],
  ['soon', 0],
  ['Thu, 01 Jan 1970 00:01:05 GMT', 5_000],
  ['Thu, 01 Jan 1970 00:00:05 GMT', 0],
])('Retry-After: %s', (header, milliseconds) => {
  expect(retryAfter(header, 60_000)).toBe(milliseconds);
});
