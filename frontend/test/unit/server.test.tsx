/** Rendered where there is no browser: the same markup a browser starts from. */
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { expect, test } from 'vitest';
import { createNotificationClient } from '../../src/index.js';
import {
  NotificationBell,
  NotificationProvider,
  useNotificationSSE,
  useUnreadCount,
} from '../../src/react/index.js';

function Status() {
  return createElement('p', null, `${useNotificationSSE().status} ${useUnreadCount()}`);
}

test('a server renders the bell without a document, a window or a stream', () => {
  expect(typeof document).toBe('undefined');
  const html = renderToString(
    <NotificationProvider url="/api/notifications/stream" user="somebody">
      <NotificationBell />
      <Status />
    </NotificationProvider>,
  );
  expect(html).toContain('aria-label="Notifications"');
  expect(html).toContain('<p>connecting 0</p>');
});

test('a client made on a server does nothing there', () => {
  const client = createNotificationClient({ url: '/api/notifications/stream' });
  expect(client.getState()).toMatchObject({ status: 'connecting', unreadCount: 0 });
});

test('a hook without a provider says what is missing', () => {
  expect(() => renderToString(<Status />)).toThrow('<NotificationProvider>');
});
