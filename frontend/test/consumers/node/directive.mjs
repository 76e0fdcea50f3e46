// React's server components take what is here for the browser's only where it says so
// before its first statement, in either format.
import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const { exports: entries } = require('@notify-gateway/client/package.json');
for (const file of [entries['./react'].import, entries['./react'].require]) {
  const path = require.resolve('@notify-gateway/client/package.json').replace('package.json', file);
  assert.match(readFileSync(path, 'utf8'), /^("use strict";\s*)?'use client';/, file);
}
