/**
 * Gives milliseconds that never go back: where the machine's clock is set back, they
 * go on from where they were. Unlike `performance.now()` they see a sleep.
 */
export function createClock(): () => number {
  let offset = 0;
  let last = -Infinity;
  return () => {
    offset += Math.max(0, last - (Date.now() + offset));
    last = Date.now() + offset;
    return last;
  };
}
