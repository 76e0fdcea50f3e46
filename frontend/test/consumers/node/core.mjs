// The core as a module, in Node; and the file for pages without a bundler, which
// brings all that it needs.
import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as core from '@notify-gateway/client';
import * as browser from '@notify-gateway/client/browser';

const client = core.createNotificationClient({ url: '/api/notifications/stream' });
assert.equal(client.getState().status, 'connecting');

assert.deepEqual(Object.keys(browser), Object.keys(core));
const text = readFileSync(
  fileURLToPath(import.meta.resolve('@notify-gateway/client/browser')),
  'utf8',
);
assert.doesNotMatch(text, /\bimport\b|\brequire\b|process\.env/);
