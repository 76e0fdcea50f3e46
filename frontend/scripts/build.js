// TypeScript to dist/: a module a file, so that bundlers leave out what a page
// does not use and a debugger shows what was written.
//
// dist/ is ESM, dist/cjs/ is the same for those who call require(). Two copies of
// one module would be two React contexts, and a hook of one would not find the
// provider of the other. So bundlers (`module` in package.json's exports) and Node
// from 20.19 and 22.12 (`module-sync`) are given the ESM for require() as well, and
// have one copy. Two remain in an older Node, and in Jest's mode for ES modules: all
// who share a provider there have to import, or all to require. TypeScript finds the
// declarations beside each file; `typesVersions` leads those there who know no exports.
import { execFileSync } from 'node:child_process';
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
rmSync('dist', { recursive: true, force: true });

/** @param {string} project */
function compile(project) {
  execFileSync('node_modules/.bin/tsc', ['-p', project], { stdio: 'inherit' });
}
compile('tsconfig.build.json');
compile('tsconfig.cjs.json');
// The nearest package.json says what a .js and a .d.ts is.
writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n');

// For pages without a bundler: the core in one file, which asks for no other.
await build({
  entryPoints: ['dist/index.js'],
  outfile: 'dist/notify-gateway.min.js',
  bundle: true,
  minify: true,
  sourcemap: true,
  format: 'esm',
  target: 'es2022',
  define: { 'process.env.NODE_ENV': '"production"' },
  logLevel: 'warning',
});

copyFileSync('src/style.css', 'dist/style.css');
// TypeScript wants to know what an import of it brings: nothing.
writeFileSync('dist/cjs/style.css.d.ts', 'export {};\n');
