// The core in CommonJS, in Node: what a test of an app, or a server that renders, does.
const { strict: assert } = require('node:assert');
const { createNotificationClient, NotificationClientError } = require('@notify-gateway/client');

const client = createNotificationClient({ url: '/api/notifications/stream' });
assert.equal(client.getState().status, 'connecting');
assert.ok(new NotificationClientError('stream_refused', 'no') instanceof Error);
assert.equal(require('@notify-gateway/client/browser').createNotificationClient.length, 1);
