/** Where the client's words go: `console`, or a part of a logging library. */
export interface Logger {
  /** For the developer, in development builds only: what is wrong and what to do about it. */
  readonly warn?: ((message: string) => void) | undefined;
  /** What the stream does, as it does it. Never a token, never a notification. */
  readonly debug?: ((message: string) => void) | undefined;
}

const said = new Set<string>();

/**
 * Says something once. Calls stand behind `process.env.NODE_ENV !== 'production'`, which
 * bundlers replace: their words are in no production build.
 */
export function warn(logger: Logger | undefined, message: string): void {
  if (said.has(message)) return;
  said.add(message);
  (logger ?? console).warn?.(`notify-gateway: ${message}`);
}
