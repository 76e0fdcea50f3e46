import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: process.env['SOAK'] ? ['test/browser/soak.ts'] : ['test/browser/**/*.test.ts'],
    environment: 'node',
    // Each file has a database, a gateway and a browser of its own, and waits
    // most of the time; more than two at once would only take each other's.
    maxWorkers: 2,
    testTimeout: 180_000,
    hookTimeout: 120_000,
  },
});
