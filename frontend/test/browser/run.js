// The tests in a real browser, Chromium or the one that TEST_BROWSER names, or a
// loud word about why there are none.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { isFirefox, missing } from './support/prerequisites.js';

const lines = missing();
if (lines.length > 0) {
  const isRequired = Boolean(process.env['CI_REQUIRE_BROWSER']);
  const name = isFirefox ? 'FIREFOX' : 'BROWSER';
  const line = '='.repeat(72);
  console.error(line);
  console.error(
    isRequired ? `${name} TESTS CANNOT RUN` : `${name} TESTS SKIPPED: nothing was tested`,
  );
  for (const what of lines) console.error(`  missing: ${what}`);
  console.error(line);
  process.exit(isRequired ? 1 : 0);
}
process.chdir(fileURLToPath(new URL('../..', import.meta.url)));
const args = ['run', '--config', 'vitest.browser.config.ts', ...process.argv.slice(2)];
const { status } = spawnSync('node_modules/.bin/vitest', args, { stdio: 'inherit' });
process.exit(status ?? 1);
