// What each bundler makes of the package: one copy, whoever asks for it and how,
// and nothing that the page does not use.
import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import * as esbuild from 'esbuild';
import * as vite from 'vite';
import webpack from 'webpack';

const bundlers = {
  esbuild: ({ entry, directory }) =>
    esbuild.build({
      entryPoints: [entry],
      outfile: `${directory}/page.js`,
      bundle: true,
      minify: true,
      format: 'esm',
      define: { 'process.env.NODE_ENV': '"production"' },
    }),
  vite: ({ entry, directory }) =>
    vite.build({
      configFile: false,
      // Without its plugin for React it would warn of 'use client'.
      logLevel: 'error',
      build: {
        outDir: directory,
        rolldownOptions: { input: entry, output: { entryFileNames: 'page.js' } },
      },
    }),
  webpack: async ({ entry, directory }) => {
    const stats = await promisify(webpack)({
      mode: 'production',
      entry,
      output: { path: resolve(directory), filename: 'page.js' },
    });
    assert.equal(stats.hasErrors() || stats.hasWarnings(), false, stats.toString());
  },
};

for (const [name, bundle] of Object.entries(bundlers)) {
  await bundle({ entry: './page.js', directory: `built/${name}/page` });
  delete globalThis.copies;
  await import(pathToFileURL(resolve(`built/${name}/page/page.js`)));
  assert.equal(globalThis.copies, 1, `copies in ${name}'s bundle`);

  await bundle({ entry: './core.js', directory: `built/${name}/core` });
  const text = readFileSync(`built/${name}/core/page.js`, 'utf8');
  assert.match(text, /text\/event-stream/, `${name}: the core`);
  assert.doesNotMatch(text, /react|new EventSource/, `${name}: what the page does not use`);
}
