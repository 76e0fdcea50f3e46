// A page that uses the core alone.
import { createNotificationClient } from '@notify-gateway/client';

globalThis.client = createNotificationClient({ url: '/api/notifications/stream' });
