import { canonical } from './user.js';

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
/** How long a tab that has come into view waits for a leader to answer it. */
const PATIENCE_MS = 2_000;
/** Of several tabs in view that are offered the lead, one is the first. */
const OFFER_SPREAD_MS = 100;

/** What tabs say about the lead; everything else is the client's. */
type Signal =
  /** A tab has come into view: who leads? */
  | 'ask'
  /** A leader in view. */
  | 'here'
  /** A leader that nobody looks at: one that is in view may take the lead. */
  | 'offer';

interface Envelope {
  readonly signal?: Signal;
  readonly message?: unknown;
}

/**
 * One stream for all tabs of a browser.
 *
 * The tabs of one user and one URL queue for a Web Lock. Who has it leads: it
 * alone streams, and tells the others over a BroadcastChannel. The browser hands
 * the lock on in the moment the leader's page is gone, however it went. A tab
 * that is looked at takes the lead from one that is not, since browsers slow
 * hidden pages down or put them to sleep. Where a browser has neither (plain
 * HTTP), each tab streams alone.
 *
 * @param user Who is logged in: what one may see must not end up in another's tab.
 */
export function oneStreamPerBrowser(user: string): ShareStream {
  return (url, handlers) => {
    const canShare = typeof BroadcastChannel !== 'undefined' && 'locks' in navigator;
    return canShare ? share(keyOf(url, user), handlers) : null;
  };
}

/** Tabs whose code speaks of other things, by another number, do not share. */
function keyOf(url: string, user: string): string {
  const key = [3, new URL(url, location.href).href, canonical(user)];
  return `notify-gateway ${JSON.stringify(key)}`;
}

function share(name: string, handlers: SharingHandlers): Sharing {
  const channel = new BroadcastChannel(name);
  const left = new AbortController();
  let queued = new AbortController();
  let release: (() => void) | null = null;
  let silence: ReturnType<typeof setTimeout> | undefined;
  /** Until this tab reaches for the lead of one that is hidden or does not answer. */
  let reach: ReturnType<typeof setTimeout> | undefined;
  /** It has reached for it, and has no answer yet. */
  let isReaching = false;

  const request = (options: LockOptions): void => {
    let isHeld = false;
    let own: (() => void) | null = null;
    const hold = (): Promise<void> | undefined => {
      isReaching = false;
      if (left.signal.aborted || release !== null) return undefined;
      isHeld = true;
      clearTimeout(silence);
      clearTimeout(reach);
      const held = new Promise<void>((resolve) => {
        release = own = resolve;
      });
      handlers.lead();
      answer();
      return held;
    };
    navigator.locks.request(name, options, hold).catch(() => {
      isReaching = false;
      if (left.signal.aborted || options.signal?.aborted === true) return;
      if (isHeld) {
        // Stolen: this tab was taken for dead, or is out of view.
        if (release !== own) return;
        release = null;
        handlers.demoted();
        queue();
      } else {
        // No locks for this page after all (a sandboxed frame): it is on its own.
        clearTimeout(silence);
        clearTimeout(reach);
        if (release === null) {
          release = () => undefined;
          handlers.lead();
        }
      }
    });
  };
  const queue = (): void => {
    queued = new AbortController();
    request({ signal: queued.signal });
    heard();
  };
  const say = (signal: Signal): void => {
    channel.postMessage({ signal } satisfies Envelope);
  };
  /** A leader says whether it is in view. */
  const answer = (): void => {
    if (release !== null) say(document.hidden ? 'offer' : 'here');
  };
  /** Takes the lead, unless a leader in view answers before. */
  const reachIn = (milliseconds: number): void => {
    clearTimeout(reach);
    if (release === null && !document.hidden) reach = setTimeout(steal, milliseconds);
  };
  /** This tab has come into view, or gone out of it. */
  const look = (): void => {
    if (release !== null) {
      answer();
    } else if (document.hidden) {
      clearTimeout(reach);
    } else {
      say('ask');
      reachIn(PATIENCE_MS);
    }
  };
  const steal = (): void => {
    if (isReaching || release !== null) return;
    // A page nobody looks at has nobody to lead for, and may be as suspended
    // as its leader.
    if (document.hidden) {
      heard();
    } else {
      queued.abort();
      isReaching = true;
      request({ steal: true });
    }
  };
  const heard = (): void => {
    clearTimeout(silence);
    if (release !== null || left.signal.aborted) return;
    silence = setTimeout(steal, SILENCE_MS + Math.random() * SILENCE_SPREAD_MS);
  };

  channel.onmessage = ({ data }: MessageEvent<Envelope>) => {
    if (data.signal === 'ask') answer();
    else if (data.signal === 'here') clearTimeout(reach);
    else if (data.signal === 'offer') reachIn(Math.random() * OFFER_SPREAD_MS);
    else handlers.message(data.message);
  };
  document.addEventListener('visibilitychange', look, { signal: left.signal });
  queue();
  look();
  return {
    post(message) {
      channel.postMessage({ message } satisfies Envelope);
    },
    heard,
    leave() {
      clearTimeout(silence);
      clearTimeout(reach);
      left.abort();
      queued.abort();
      release?.();
      channel.close();
    },
  };
}
