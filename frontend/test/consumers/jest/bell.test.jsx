/** @jest-environment jsdom */
import { NotificationBell, NotificationProvider } from '@notify-gateway/client/react';
import { createNotificationClient } from '@notify-gateway/client';
import { createFakeClient } from '@notify-gateway/client/testing';
import { act, fireEvent, render, screen } from '@testing-library/react';

test('the bell is there', () => {
  const client = createNotificationClient({ url: '/api/notifications/stream', enabled: false });
  render(
    <NotificationProvider client={client}>
      <NotificationBell />
    </NotificationProvider>,
  );
  expect(screen.getByRole('button', { name: 'Notifications' }).isConnected).toBe(true);
});

test('the example of the README: a client without a gateway', () => {
  const client = createFakeClient({ unreadCount: 2 });
  render(
    <NotificationProvider client={client}>
      <NotificationBell />
    </NotificationProvider>,
  );
  act(() => client.arrive({ title: 'Export ready' }));
  fireEvent.click(screen.getByRole('button', { name: 'Notifications, 3 unread' }));
  fireEvent.click(screen.getByRole('button', { name: /Export ready/ }));
  expect(client.calls.at(-1)).toEqual({ action: 'markAsRead', ids: ['fake 1'] });
});
