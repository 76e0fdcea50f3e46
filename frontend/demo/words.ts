import type { BellLabels } from '../src/react/index.js';

const TYPES: Readonly<Record<string, string>> = {
  info: 'Info',
  success: 'Success',
  warning: 'Warning',
  error: 'Error',
};

/** The words of a bell and a list of which the page has two: whose they are is to be heard. */
export function wordsOf(name: string, error: unknown): Partial<BellLabels> {
  const type = (of: string): string => TYPES[of] ?? of;
  return {
    button: (unread) => `Notifications of ${name}${unread > 0 ? `, ${unread} unread` : ''}`,
    type,
    announcement: (row) => `${name}: ${type(row.type)}, ${shorten(row.title, 140)}`,
    ...(error instanceof Error && { error: error.message }),
  };
}

function shorten(text: string, length: number): string {
  const characters = Array.from(text);
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join('')}…`;
}
