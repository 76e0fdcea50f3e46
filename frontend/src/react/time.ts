import { useEffect, useState, useSyncExternalStore } from 'react';

const MINUTE_MS = 60_000;
const UNITS: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ['day', 24 * 60 * MINUTE_MS],
  ['hour', 60 * MINUTE_MS],
  ['minute', MINUTE_MS],
];

/** "3 min. ago", in the browser's language or the one given; a date after a week. */
export function relativeTime(time: Date, now: number, locale?: string): string {
  const past = now - time.getTime();
  if (past >= 7 * 24 * 60 * MINUTE_MS)
    return time.toLocaleDateString(locale, { dateStyle: 'medium' });
  const words = new Intl.RelativeTimeFormat(locale, { numeric: 'auto', style: 'short' });
  for (const [unit, length] of UNITS) {
    if (past >= length) return words.format(-Math.floor(past / length), unit);
  }
  // A moment ago, or ahead: clocks differ.
  return words.format(0, 'second');
}

/** The locale; undefined, which is the browser's own, where it is not valid, such as `de_CH`. */
export function knownLocale(locale: string | undefined): string | undefined {
  try {
    Intl.getCanonicalLocales(locale);
    return locale;
  } catch {
    return undefined;
  }
}

/** False on a server and while its page is taken over: a server's clock and language are others. */
export function useIsHydrated(): boolean {
  return useSyncExternalStore(
    () => () => undefined,
    () => true,
    () => false,
  );
}

/** The time, told anew each minute while the component is mounted. */
export function useMinute(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => {
      setNow(Date.now());
    }, MINUTE_MS);
    return () => {
      clearInterval(timer);
    };
  }, []);
  return now;
}
