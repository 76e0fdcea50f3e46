// An app for each recipe of examples/, as one would have it who has copied it.
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../../scripts/run.js';
import { install } from './consumer.js';

const EXAMPLES = fileURLToPath(new URL('../../examples', import.meta.url));
const BUNDLE = 'node_modules/@notify-gateway/client/dist/notify-gateway.min.js';

/**
 * The recipes beside what they need.
 *
 * @param {{ readonly tarball: string, readonly directory: string }} packed
 */
async function installExamples(packed) {
  const cwd = await install('examples', packed);
  cpSync(EXAMPLES, cwd, { recursive: true });
  return cwd;
}

/**
 * Builds them; gives the directory of those that are pages, each in a folder of its own, and
 * that of the app in Next.js.
 *
 * @param {{ readonly tarball: string, readonly directory: string }} packed
 */
export async function buildExamples(packed) {
  const cwd = await installExamples(packed);
  await run(cwd, 'npm', 'run', 'build');
  await run(cwd, 'npm', 'run', 'build:next');
  const pages = join(cwd, 'dist');
  cpSync(join(cwd, 'plain-html'), join(pages, 'plain-html'), { recursive: true });
  cpSync(join(cwd, BUNDLE), join(pages, 'plain-html/notify-gateway.min.js'));
  return { pages, next: join(cwd, 'nextjs') };
}

/**
 * Has the compilers look at all of them.
 *
 * @param {{ readonly tarball: string, readonly directory: string }} packed
 */
export async function checkExamples(packed) {
  const cwd = await installExamples(packed);
  await run(cwd, 'npm', 'run', 'test:types');
}
