// A server that renders, in CommonJS.
const { strict: assert } = require('node:assert');
const { createElement } = require('react');
const { renderToString } = require('react-dom/server');
const { NotificationBell, NotificationProvider } = require('@notify-gateway/client/react');

const url = '/api/notifications/stream';
const html = renderToString(
  createElement(NotificationProvider, { url }, createElement(NotificationBell)),
);
assert.match(html, /aria-label="Notifications"/);
