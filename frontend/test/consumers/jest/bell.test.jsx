/** @jest-environment jsdom */
import { NotificationBell, NotificationProvider } from '@notify-gateway/client/react';
import { createNotificationClient } from '@notify-gateway/client';
import { render, screen } from '@testing-library/react';

test('the bell is there', () => {
  const client = createNotificationClient({ url: '/api/notifications/stream', enabled: false });
  render(
    <NotificationProvider client={client}>
      <NotificationBell />
    </NotificationProvider>,
  );
  expect(screen.getByRole('button', { name: 'Notifications' }).isConnected).toBe(true);
});
