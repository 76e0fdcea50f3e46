import { NotificationBell } from '@notify-gateway/client/react';
import '@notify-gateway/client/style.css';
import type { ReactNode } from 'react';
import { readInitialData } from '../lib/inbox';
import { currentUser } from '../lib/session';
import { Notifications } from './notifications';

export default async function RootLayout({ children }: { readonly children: ReactNode }) {
  const user = await currentUser();
  return (
    <html lang="en">
      <body>
        {user === null ? (
          <p>Nobody is logged in</p>
        ) : (
          // The key: another user begins with a list of their own.
          <Notifications key={user} initialData={await readInitialData(user)}>
            <header>
              <NotificationBell />
            </header>
          </Notifications>
        )}
        <main>{children}</main>
      </body>
    </html>
  );
}
