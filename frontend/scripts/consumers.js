// The package as it is published, in projects as its users have them: in Node, in
// bundlers, in Jest, in TypeScript however it finds packages, in a new Vite app, and in
// the recipes of examples/.
import { rmSync } from 'node:fs';
import { NoRegistryError, install } from '../test/consumers/consumer.js';
import { checkExamples } from '../test/consumers/examples.js';
import { buildNewcomer } from '../test/consumers/newcomer.js';
import { run } from './run.js';
import { pack } from './tarball.js';

const packed = await pack();
try {
  for (const name of ['node', 'typescript', 'bundlers', 'jest']) {
    console.time(name);
    await run(await install(name, packed), 'npm', 'test');
    console.timeEnd(name);
  }
  console.time('vite, by the README');
  await buildNewcomer(packed);
  console.timeEnd('vite, by the README');
  console.time('examples');
  await checkExamples(packed);
  console.timeEnd('examples');
} catch (error) {
  if (!(error instanceof NoRegistryError)) throw error;
  const isRequired = Boolean(process.env['CI_REQUIRE_BROWSER']);
  const line = '='.repeat(72);
  console.error(line);
  console.error(
    isRequired ? 'CONSUMERS CANNOT BE TESTED' : 'CONSUMERS SKIPPED: not all were tested',
  );
  console.error("  missing: npm's registry, or what the lock files name in npm's cache");
  console.error(line);
  process.exitCode = isRequired ? 1 : 0;
} finally {
  rmSync(packed.directory, { recursive: true });
}
