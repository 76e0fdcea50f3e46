import { defineConfig } from 'vitest/config';
import { isFirefox } from './test/browser/support/prerequisites.js';

/** What differs from browser to browser: streams, tabs, tokens, what a page goes through. */
const CORE = '{outage,story,tabs,tokens,users}';
const tests = `test/browser/${isFirefox ? CORE : '**/*'}.test.ts`;

export default defineConfig({
  test: {
    include: process.env['SOAK'] ? ['test/browser/soak.ts'] : [tests],
    environment: 'node',
    // Each file has a database, a gateway and a browser of its own, and waits
    // most of the time; more than two at once would only take each other's.
    maxWorkers: 2,
    testTimeout: 180_000,
    hookTimeout: 120_000,
  },
});
