/** A glance at another tab is no reason to close a stream. */
const AWAY_MS = 30_000;

/** What a page goes through that matters to its stream and its polls. */
export interface PageHandlers {
  /** It has come into view, or gone out of it; and how it is at the beginning. */
  readonly looked: (isVisible: boolean) => void;
  /** It has been out of view for half a minute. */
  readonly away: () => void;
  /** The network is back. */
  readonly online: () => void;
  /** It is left; perhaps it is kept, and comes back. */
  readonly left: () => void;
  /** It has come back from where the back button keeps pages. */
  readonly restored: () => void;
}

/** Listens to the page until the function it gives is called. */
export function listenToPage(handlers: PageHandlers): () => void {
  const listening = new AbortController();
  const on = (target: EventTarget, name: string, listener: (event: Event) => void): void => {
    target.addEventListener(name, listener, { signal: listening.signal });
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  const look = (): void => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(handlers.away, AWAY_MS);
    handlers.looked(!document.hidden);
  };
  look();
  on(document, 'visibilitychange', look);
  on(window, 'online', handlers.online);
  on(window, 'pagehide', handlers.left);
  on(window, 'pageshow', (event) => {
    if ((event as PageTransitionEvent).persisted) handlers.restored();
  });
  return () => {
    clearTimeout(timer);
    listening.abort();
  };
}
