/** Which notifications have a toast, and how many of them. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { isToasted, showToasts } from '../../src/react/toasts.js';
import { type FakeClient, createFakeClient } from '../../src/testing.js';

let page: { hidden: boolean };
let client: FakeClient;
let shown: Map<string, string>;
let end: () => void;
beforeEach(() => {
  vi.useFakeTimers();
  page = { hidden: false };
  vi.stubGlobal('document', page);
  shown = new Map();
  client = createFakeClient();
  const show =
    (type: string) =>
    (title: string, { id }: { id: string }) =>
      shown.set(id, `${type}: ${title}`);
  const toaster = {
    success: show('success'),
    error: show('error'),
    dismiss: (id: string) => shown.delete(id),
  };
  end = showToasts(
    client,
    () => toaster,
    (count) => `${count} more`,
  );
});
afterEach(() => {
  end();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});
const toasts = (): string[] => [...shown.values()];

test('what has succeeded or failed has one, the rest has not', () => {
  for (const type of ['info', 'success', 'warning', 'error', 'of-the-app']) {
    client.arrive({ type, title: type });
  }
  expect(toasts()).toEqual(['success: success', 'error: error']);
});

test('three hundred that were missed asleep have none', () => {
  for (let n = 0; n < 300; n += 1) client.arrive({ type: 'error' }, { live: false });
  expect(toasts()).toEqual([]);
});

test('of three hundred that come at once the first three have one each, the rest one together', () => {
  for (let n = 1; n <= 300; n += 1) {
    client.arrive({ type: n === 250 ? 'error' : 'success', title: `row ${n}` });
  }
  expect(toasts()).toEqual([
    'success: row 1',
    'success: row 2',
    'success: row 3',
    'error: 297 more',
  ]);
  vi.advanceTimersByTime(6_000);
  client.arrive({ type: 'success', title: 'later' });
  expect(toasts()).toContain('success: later');
});

test('a tab that does not lead, or that nobody looks at, has none', () => {
  client.setState({ isLeading: false });
  client.arrive({ type: 'error' });
  client.setState({ isLeading: true });
  page.hidden = true;
  client.arrive({ type: 'error' });
  expect(toasts()).toEqual([]);
});

test('those of a former user are taken away', () => {
  client.arrive({ type: 'error', title: 'of Ada' });
  client.setState({ session: 2 });
  expect(toasts()).toEqual([]);
  client.arrive({ type: 'success', title: 'of Bob' });
  expect(toasts()).toEqual(['success: of Bob']);
  end();
  expect(toasts()).toEqual([]);
});

test('a live region need not say what a toast says', () => {
  const events: boolean[] = [];
  client.subscribe((event) => {
    if (event?.type !== 'notification') return;
    events.push(isToasted(client, event.notification, event.arrival));
  });
  client.arrive({ type: 'success' });
  client.arrive({ type: 'info' });
  client.arrive({ type: 'success' }, { live: false });
  expect(events).toEqual([true, false, false]);
});
