// A project outside of this repository that has installed the package.
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../../scripts/run.js';

const PROJECTS = fileURLToPath(new URL('.', import.meta.url));
const AWAY = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ENOTCACHED/;

/** There is no registry to install from, and what is needed is not in npm's cache. */
export class NoRegistryError extends Error {}

/**
 * Copies a project of this directory, installs what its lock file names, and then the package.
 *
 * @param {string} name
 * @param {{ readonly tarball: string, readonly directory: string }} packed
 */
export async function install(name, { tarball, directory }) {
  const cwd = join(directory, name);
  cpSync(join(PROJECTS, name), cwd, { recursive: true });
  const flags = ['--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts'];
  // Where there is no registry it takes half a minute to say so, not minutes.
  flags.push('--fetch-retry-maxtimeout', '10000');
  try {
    await run(cwd, 'npm', 'ci', ...flags);
  } catch (error) {
    if (!AWAY.test(String(error))) throw error;
    throw new NoRegistryError(String(error), { cause: error });
  }
  // Not by npm install, which would write another lock file first.
  const target = join(cwd, 'node_modules/@notify-gateway/client');
  mkdirSync(target, { recursive: true });
  await run(cwd, 'tar', '-xzf', tarball, '-C', target, '--strip-components', '1');
  return cwd;
}
