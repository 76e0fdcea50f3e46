/** A tab's place among the others. */
export interface Sharing {
  /** Tells the other tabs. */
  post(message: unknown): void;
  /** The leader has shown that it lives. */
  heard(): void;
  /** Lets go: of the lead, of its place in the queue, of the channel. */
  leave(): void;
}

/** What happens to a tab among others. */
export interface SharingHandlers {
  /** This tab leads from now on. */
  lead(): void;
  /** Another tab has taken the lead from this one, which had fallen silent. */
  demoted(): void;
  message(message: unknown): void;
}

/** A way for tabs to have one stream between them; null where this browser has none. */
export type ShareStream = (url: string, handlers: SharingHandlers) => Sharing | null;

/**
 * A leader that is silent for so long is suspended with the lock in its hand, as
 * iOS does to tabs in the background. Browsers let a hidden page's timers run
 * once a minute, so this is well above that.
 */
const SILENCE_MS = 150_000;
/** The others do not all reach for the lock at once. */
const SILENCE_SPREAD_MS = 30_000;

/**
 * One stream for all tabs of a browser.
 *
 * The tabs of one user and one URL queue for a Web Lock. Who has it leads: it
 * alone streams, and tells the others over a BroadcastChannel. The browser hands
 * the lock on in the moment the leader's page is gone, however it went. Where a
 * browser has neither (plain HTTP), each tab streams alone.
 *
 * @param user Who is logged in: any string that differs between users. What one
 * may see must not end up in another's tab.
 */
export function oneStreamPerBrowser(user: string): ShareStream {
  return (url, handlers) => {
    const canShare = typeof BroadcastChannel !== 'undefined' && 'locks' in navigator;
    return canShare ? share(keyOf(url, user), handlers) : null;
  };
}

/** Tabs whose code speaks of other things, by another number, do not share. */
function keyOf(url: string, user: string): string {
  return `notify-gateway ${JSON.stringify([1, new URL(url, location.href).href, user])}`;
}

function share(name: string, handlers: SharingHandlers): Sharing {
  const channel = new BroadcastChannel(name);
  const left = new AbortController();
  let queued = new AbortController();
  let release: (() => void) | null = null;
  let silence: ReturnType<typeof setTimeout> | undefined;

  const request = (options: LockOptions): void => {
    let isHeld = false;
    const hold = (): Promise<void> | undefined => {
      if (left.signal.aborted) return undefined;
      isHeld = true;
      clearTimeout(silence);
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      handlers.lead();
      return held;
    };
    navigator.locks.request(name, options, hold).catch(() => {
      if (left.signal.aborted || options.signal?.aborted === true) return;
      if (isHeld) {
        // Stolen: this tab was taken for dead.
        release = null;
        handlers.demoted();
        queue();
      } else {
        // No locks for this page after all (a sandboxed frame): it is on its own.
        handlers.lead();
      }
    });
  };
  const queue = (): void => {
    queued = new AbortController();
    request({ signal: queued.signal });
    heard();
  };
  const steal = (): void => {
    // A page nobody looks at has nobody to lead for, and may be as suspended
    // as its leader.
    if (document.hidden) {
      heard();
    } else {
      queued.abort();
      request({ steal: true });
    }
  };
  const heard = (): void => {
    clearTimeout(silence);
    if (release !== null || left.signal.aborted) return;
    silence = setTimeout(steal, SILENCE_MS + Math.random() * SILENCE_SPREAD_MS);
  };

  channel.onmessage = ({ data }: MessageEvent<unknown>) => {
    handlers.message(data);
  };
  queue();
  return {
    post(message) {
      channel.postMessage(message);
    },
    heard,
    leave() {
      clearTimeout(silence);
      left.abort();
      queued.abort();
      release?.();
      channel.close();
    },
  };
}
