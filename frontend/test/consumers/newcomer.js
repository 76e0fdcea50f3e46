// Somebody who has just typed `npm create vite`, chosen React and TypeScript, and
// now follows the README.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../scripts/run.js';
import { install } from './consumer.js';

const README = new URL('../../README.md', import.meta.url);
const HEADING = '## React, with a bearer token';

/**
 * Builds the app; gives the directory of its pages.
 *
 * @param {{ readonly tarball: string, readonly directory: string }} packed
 */
export async function buildNewcomer(packed) {
  const cwd = await install('vite', packed);
  writeFileSync(join(cwd, 'src/App.tsx'), app(example(readFileSync(README, 'utf8'))));
  await run(cwd, 'npm', 'run', 'build');
  return join(cwd, 'dist');
}

/**
 * The first example in React, as it is in the README.
 *
 * @param {string} readme
 */
function example(readme) {
  const section = readme.split(`${HEADING}\n`)[1];
  const code = /^```tsx\n(.*?)^```$/ms.exec(section ?? '')?.[1];
  if (code === undefined) throw new Error(`the README has no tsx under "${HEADING}"`);
  return code;
}

/**
 * Its imports on top, its element in a component; what it takes for granted is in the prelude.
 *
 * @param {string} code
 */
function app(code) {
  const start = code.search(/^</m);
  const imports = code.slice(0, start);
  const element = code.slice(start).trimEnd().replace(/;$/, '');
  const given = ['api', 'auth', 'linkOf', 'router', 'user'];
  const used = given.filter((name) => new RegExp(`\\b${name}\\b`).test(element));
  return `${imports}import { ${used.join(', ')} } from './prelude.ts';
import './App.css';

function App() {
  return (
${element}
  );
}

export default App;
`;
}
