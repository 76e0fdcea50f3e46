// A server that renders, as a module, with a dependency that calls require() for the
// hooks: a Node that knows `module-sync` gives both the same context.
import { strict as assert } from 'node:assert';
import { createRequire } from 'node:module';
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { NotificationProvider } from '@notify-gateway/client/react';

const { NotificationBell } = createRequire(import.meta.url)('@notify-gateway/client/react');
const page = createElement(
  NotificationProvider,
  { url: '/api/notifications/stream' },
  createElement(NotificationBell),
);
if (process.features.require_module) {
  assert.match(renderToString(page), /aria-label="Notifications"/);
} else {
  assert.throws(() => renderToString(page), /<NotificationProvider>/);
}
