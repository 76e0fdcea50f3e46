// What npm would publish, so that it is looked at and not the working directory:
// a file that `files` forgets is missing there, too.
import { mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './run.js';

const PACKAGE = fileURLToPath(new URL('..', import.meta.url));

/** Builds and packs; the directory is the caller's to remove. */
export async function pack() {
  const directory = mkdtempSync(join(tmpdir(), 'notify-gateway-pack-'));
  await run(PACKAGE, 'npm', 'pack', '--pack-destination', directory);
  const [name = ''] = readdirSync(directory);
  return { directory, tarball: join(directory, name) };
}
