/** Longer than anything takes on a busy machine. It bounds a failure, not a success. */
export const PATIENCE_MS = 60_000;

/** Waits for what nothing announces: asks until it is so. */
export async function eventually(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  patience = PATIENCE_MS,
): Promise<void> {
  const deadline = Date.now() + patience;
  for (;;) {
    const remaining = deadline - Date.now();
    // A condition that is asked of something that is just restarting may throw.
    const answer = await Promise.resolve()
      .then(isSo)
      .catch((error: unknown) => {
        if (remaining < 0) throw error;
        return false;
      });
    if (answer) return;
    if (remaining < 0) throw new Error(`never came: ${what}`);
    await sleep(20);
  }
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** The one in the middle: what a machine that was busy for a moment does not move. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;
}
