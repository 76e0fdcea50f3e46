/** An error in the app's code must not end the stream it came from; it is the page's all the same. */
export function guard<T extends unknown[]>(
  call: ((...args: T) => void) | undefined,
  ...args: T
): void {
  try {
    call?.(...args);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
