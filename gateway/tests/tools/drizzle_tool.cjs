// Drizzle, with the table of the first story: what `drizzle-kit push` would run.
//
//     node drizzle_tool.cjs create|check      in the directory where npm has put Drizzle
'use strict';
const { createRequire } = require('node:module');
const installed = createRequire(`${process.cwd()}/`);
const { pushSchema } = installed('drizzle-kit/api');
const { drizzle } = installed('drizzle-orm/node-postgres');
const { jsonb, pgTable, text, timestamp, uuid } = installed('drizzle-orm/pg-core');
const { Pool } = installed('pg');

const notifications = pgTable('notifications', {
  id: uuid().primaryKey().defaultRandom(),
  user_id: uuid().notNull(),
  type: text().notNull().default('info'),
  title: text().notNull(),
  message: text().notNull(),
  status: text().notNull().default('unread'),
  metadata: jsonb().notNull().default({}),
  related_session_id: uuid(),
  created_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
});

async function main() {
  const pool = new Pool({ connectionString: process.env.DATABASE_URL });
  const wanted = await pushSchema({ notifications }, drizzle(pool), ['public']);
  if (process.argv[2] === 'create') {
    await wanted.apply();
  } else if (wanted.statementsToExecute.length > 0) {
    throw new Error(`it wants: ${wanted.statementsToExecute.join('\n')}`);
  }
  await pool.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
