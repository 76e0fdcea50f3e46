// The same program under each way in which TypeScript finds a package.
const { execFileSync } = require('node:child_process');
const { copyFileSync, mkdirSync, writeFileSync } = require('node:fs');
const { exports: entries } = require('@notify-gateway/client/package.json');

const ways = {
  node10: {
    type: 'commonjs',
    options: { module: 'commonjs', moduleResolution: 'node10', ignoreDeprecations: '6.0' },
  },
  'node16-cjs': { type: 'commonjs', options: { module: 'node16' } },
  'node16-esm': { type: 'module', options: { module: 'node16' } },
  // It follows `module-sync`, and is given the ESM.
  'nodenext-cjs': { type: 'commonjs', options: { module: 'nodenext' } },
  bundler: { type: 'module', options: { module: 'esnext', moduleResolution: 'bundler' } },
};

/** A module that imports every entry point there is, those that come later as well. */
const all = Object.keys(entries)
  .filter((path) => path !== './package.json')
  .map((path) => `import '@notify-gateway/client${path.slice(1)}';\n`)
  .join('');

for (const [name, { type, options }] of Object.entries(ways)) {
  mkdirSync(name, { recursive: true });
  copyFileSync('program.tsx', `${name}/program.tsx`);
  writeFileSync(`${name}/all.ts`, `${all}export {};\n`);
  writeFileSync(`${name}/package.json`, JSON.stringify({ type }));
  const compilerOptions = {
    ...options,
    target: 'es2022',
    lib: ['es2022', 'dom', 'dom.iterable'],
    jsx: 'react-jsx',
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    noUncheckedSideEffectImports: true,
    // The declarations themselves are looked at once in each format.
    skipLibCheck: !name.startsWith('node16'),
    types: [],
    noEmit: true,
  };
  writeFileSync(`${name}/tsconfig.json`, JSON.stringify({ compilerOptions }));
  execFileSync('node_modules/.bin/tsc', ['-p', name], { stdio: 'inherit' });
}
