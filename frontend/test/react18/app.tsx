// An app on React 18 (its types come in by tsconfig.json): what the package says
// of itself must make sense there too.
import { createNotificationClient, eventSourceTransport } from '../../dist/index.js';
import {
  NotificationBell,
  NotificationProvider,
  useNotificationSSE,
  useUnreadCount,
} from '../../dist/react/index.js';

const client = createNotificationClient({ url: '/stream', transport: eventSourceTransport() });

function Status() {
  const { status } = useNotificationSSE();
  return (
    <p>
      {status} {useUnreadCount()}
    </p>
  );
}

export function App() {
  return (
    <NotificationProvider client={client}>
      <NotificationBell labels={{ title: 'Mitteilungen' }} />
      <Status />
    </NotificationProvider>
  );
}
