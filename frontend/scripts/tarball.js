// What npm would publish, so that it is looked at and not the working directory:
// a file that `files` forgets is missing there, too.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PACKAGE = fileURLToPath(new URL('..', import.meta.url));

/** Builds and packs; the directory is the caller's to remove. */
export function pack() {
  const directory = mkdtempSync(join(tmpdir(), 'notify-gateway-pack-'));
  execFileSync('npm', ['pack', '--silent', '--pack-destination', directory], {
    cwd: PACKAGE,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [name = ''] = readdirSync(directory);
  return { directory, tarball: join(directory, name) };
}
