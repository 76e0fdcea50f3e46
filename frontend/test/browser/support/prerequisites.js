// What the browser tests stand on, and what to install where it is missing.
import { existsSync, readdirSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const PACKAGE = fileURLToPath(new URL('../../..', import.meta.url));

export const gatewayBinary = resolve(
  PACKAGE,
  process.env['NOTIFY_GATEWAY_BIN'] ?? '../target/debug/notify-gateway',
);

/** The fault test, which brings its own gateways and databases. */
export const faultsBinary = resolve(
  PACKAGE,
  process.env['NOTIFY_FAULTS_BIN'] ?? '../target/release/notify-faults',
);

export const isSoak = Boolean(process.env['SOAK']);

/** Which browser the tests are in; `BROWSER` alone is what desktops set for their own ends. */
const browser = process.env['TEST_BROWSER'] ?? 'chromium';
export const isFirefox = browser === 'firefox';

export const chromium =
  process.env['CHROMIUM_BIN'] ??
  ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);

export const firefox =
  process.env['FIREFOX_BIN'] ?? ['/usr/bin/firefox-esr', '/usr/bin/firefox'].find(existsSync);

/** The directory of PostgreSQL's binaries, server and psql; the newest where there are several. */
export const postgresBinaries = [
  ...(process.env['PATH'] ?? '').split(delimiter),
  ...versions('/usr/lib/postgresql').map((version) => join('/usr/lib/postgresql', version, 'bin')),
].find((directory) =>
  ['initdb', 'postgres', 'psql'].every((name) => existsSync(join(directory, name))),
);

/** One line for each thing that is missing. */
export function missing() {
  const lines = [];
  if (isSoak && !existsSync(faultsBinary)) {
    lines.push(`the fault test, ${faultsBinary}: make soak-browser builds it`);
  }
  if (!isSoak && !existsSync(gatewayBinary)) {
    lines.push(`the gateway, ${gatewayBinary}: cargo build, or name another by NOTIFY_GATEWAY_BIN`);
  }
  if (browser === 'firefox') {
    if (firefox === undefined || !existsSync(firefox)) {
      lines.push('Firefox: apt-get install firefox-esr, or name one by FIREFOX_BIN');
    }
  } else if (browser !== 'chromium') {
    lines.push(`the browser of TEST_BROWSER=${browser}: it is chromium or firefox`);
  } else if (chromium === undefined || !existsSync(chromium)) {
    lines.push('Chromium: apt-get install chromium, or name one by CHROMIUM_BIN');
  }
  if (postgresBinaries === undefined) {
    lines.push('PostgreSQL, server and psql: apt-get install postgresql');
  }
  return lines;
}

/** @param {string} directory */
function versions(directory) {
  if (!existsSync(directory)) return [];
  return readdirSync(directory).sort((a, b) => Number(b) - Number(a));
}
