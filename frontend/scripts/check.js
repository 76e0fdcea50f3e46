// What a package must be besides correct: typed (against React 19 and 18 both),
// resolvable by every tool, and small.
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { pack } from './tarball.js';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

/** @param {string} command @param {string[]} args */
function run(command, ...args) {
  console.log(`\n── ${command} ${args.join(' ')}`);
  execFileSync(`node_modules/.bin/${command}`, args, { stdio: 'inherit' });
}

run('tsc', '-p', 'tsconfig.json');
execFileSync(process.execPath, ['scripts/demo.js', '--check'], { stdio: 'inherit' });
const { directory, tarball } = await pack();
try {
  run('tsc', '-p', 'test/react18/tsconfig.json');
  run('publint', '--strict', tarball);
  run('attw', tarball);
} finally {
  rmSync(directory, { recursive: true });
}

console.log('\n── size, minified and gzipped, React not counted');
const limits = [
  { what: 'core', code: "export { createNotificationClient } from './index.js'", limit: 8.5 },
  { what: 'core, all of it', code: "export * from './index.js'", limit: 9.5 },
  {
    what: 'react without the bell',
    code: "export { NotificationProvider, useNotificationSSE, useNotifications, useUnreadCount } from './react/index.js'",
    limit: 10.5,
  },
  { what: 'react with the bell', code: "export * from './react/index.js'", limit: 15 },
];
for (const { what, code, limit } of limits) {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: 'dist' },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    external: ['react', 'react/jsx-runtime'],
    define: { 'process.env.NODE_ENV': '"production"' },
    write: false,
    logLevel: 'error',
  });
  const size = gzipSync(outputFiles[0]?.contents ?? '', { level: 9 }).length;
  console.log(`${what.padEnd(24)} ${String(size).padStart(5)} of ${limit * 1024} bytes`);
  if (size > limit * 1024) process.exitCode = 1;
}
