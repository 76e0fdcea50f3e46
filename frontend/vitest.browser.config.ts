import { defineConfig } from 'vitest/config';
import { isFirefox } from './test/browser/support/prerequisites.js';

/** What the bell looks like and how it is handled; the core is what differs from browser to browser. */
const BELL = ['test/browser/bell.test.ts', 'test/browser/pictures.test.ts'];

export default defineConfig({
  test: {
    include: process.env['SOAK'] ? ['test/browser/soak.ts'] : ['test/browser/**/*.test.ts'],
    exclude: isFirefox ? BELL : [],
    environment: 'node',
    // Each file has a database, a gateway and a browser of its own, and waits
    // most of the time; more than two at once would only take each other's.
    maxWorkers: 2,
    testTimeout: 180_000,
    hookTimeout: 120_000,
  },
});
