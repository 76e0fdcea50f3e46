import type { ReactElement } from 'react';

/** Over the words of an empty list. */
export function EmptyBell(): ReactElement {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true">
      <path d="M12 3.5a6 6 0 0 0-6 6c0 5.6-2.3 7.2-2.3 7.2h16.6S18 15.1 18 9.5a6 6 0 0 0-6-6zM9.9 20a2.4 2.4 0 0 0 4.2 0" />
    </svg>
  );
}

/** Says that a field opens. */
export function Chevron(): ReactElement {
  return (
    <svg viewBox="0 0 14 14" aria-hidden="true">
      <path d="M3.5 5.3L7 8.8l3.5-3.5" />
    </svg>
  );
}
