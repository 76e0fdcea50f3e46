// frontend/demo to one HTML file, which the gateway carries in itself and `make run`
// serves. It is committed, so that Rust alone builds the gateway; with --check it is
// only compared.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const PAGE = '../gateway/src/command/dev/page.html';

const { outputFiles } = await build({
  entryPoints: ['demo/main.tsx'],
  outdir: '/demo',
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'automatic',
  charset: 'utf8',
  define: { 'process.env.NODE_ENV': '"production"' },
  write: false,
  logLevel: 'warning',
});

/** @param {string} ending */
function bundled(ending) {
  const text = outputFiles.find(({ path }) => path.endsWith(ending))?.text.trim() ?? '';
  // In HTML either would end the element, or hide its end.
  if (/<\/(?:script|style)|<!--/i.test(text)) throw new Error(`${ending} does not fit into HTML`);
  return text;
}

// Functions, since `$` has a meaning in a string that takes another's place.
const page = readFileSync('demo/page.html', 'utf8')
  .replace('<!-- style -->', () => `<style>${bundled('.css')}</style>`)
  .replace('<!-- script -->', () => `<script type="module">${bundled('.js')}</script>`);

if (!process.argv.includes('--check')) {
  writeFileSync(PAGE, page);
} else if (readFileSync(PAGE, 'utf8') !== page) {
  console.error(`${PAGE} is not what frontend/demo makes: npm run demo`);
  process.exit(1);
}
