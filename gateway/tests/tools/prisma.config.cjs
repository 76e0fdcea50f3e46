// Prisma, with its engine in WebAssembly: the one that it downloads is not in npm's
// registry.
'use strict';
const { createRequire } = require('node:module');
const installed = createRequire(`${process.cwd()}/`);
const { PrismaPg } = installed('@prisma/adapter-pg');
const pg = installed('pg');

// The catalogs' own types, "char" and name, of which this adapter does not know.
const AS_TEXT = { 18: 25, 19: 25, 1002: 1009, 1003: 1009 };

class Pool extends pg.Pool {
  async query(...given) {
    const result = await super.query(...given);
    for (const field of result.fields ?? []) {
      field.dataTypeID = AS_TEXT[field.dataTypeID] ?? field.dataTypeID;
    }
    return result;
  }
}

// The engine sets a timer that would keep the process for a minute.
const { setTimeout } = globalThis;
globalThis.setTimeout = (callback, milliseconds, ...given) => {
  const timer = setTimeout(callback, milliseconds, ...given);
  return milliseconds < 60_000 ? timer : timer.unref();
};

module.exports = {
  experimental: { adapter: true },
  engine: 'js',
  adapter: async () =>
    new PrismaPg(new Pool({ connectionString: process.env.DATABASE_URL, allowExitOnIdle: true })),
};
