// TypeScript to dist/: a module a file, so that bundlers leave out what a page
// does not use and a debugger shows what was written.
import { execFileSync } from 'node:child_process';
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
rmSync('dist', { recursive: true, force: true });
execFileSync('node_modules/.bin/tsc', ['-p', 'tsconfig.build.json'], { stdio: 'inherit' });
copyFileSync('src/style.css', 'dist/style.css');
// TypeScript wants to know what an import of it brings: nothing.
writeFileSync('dist/style.css.d.ts', 'export {};\n');
