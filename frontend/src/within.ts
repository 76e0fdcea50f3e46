/**
 * What `work` comes to; or a `TimeoutError` after so many milliseconds, or the reason of
 * `until` when that is aborted. The signal of `work` then is, too; work that does not heed
 * it holds nobody up.
 */
export async function within<T>(
  milliseconds: number,
  work: (signal: AbortSignal) => Promise<T>,
  until?: AbortSignal,
): Promise<T> {
  const ending = new AbortController();
  const { signal } = ending;
  const ended = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    });
  });
  const timer = setTimeout(() => {
    ending.abort(new DOMException('it took too long', 'TimeoutError'));
  }, milliseconds);
  const end = (): void => {
    ending.abort(until?.reason);
  };
  until?.addEventListener('abort', end);
  try {
    return await Promise.race([work(signal), ended]);
  } finally {
    clearTimeout(timer);
    until?.removeEventListener('abort', end);
  }
}
