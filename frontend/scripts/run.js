import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/**
 * Runs a command, silently: what it has printed is in the error where it fails.
 *
 * @param {string} cwd @param {string} command @param {string[]} args
 */
export async function run(cwd, command, ...args) {
  try {
    await promisify(execFile)(command, args, { cwd, maxBuffer: 64 * 1024 * 1024 });
  } catch (error) {
    const { stdout = '', stderr = '' } = /** @type {{ stdout?: string, stderr?: string }} */ (
      error
    );
    throw new Error(`${[command, ...args].join(' ')} in ${cwd}:\n${stdout}${stderr}`, {
      cause: error,
    });
  }
}
