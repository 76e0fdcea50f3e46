import { createHmac, randomUUID } from 'node:crypto';
import pg from 'pg';
import type { Login } from '../src/api';

const settings = {
  BELL_URL: process.env['BELL_URL'] ?? '',
  BELL_SECRET: process.env['BELL_SECRET'] ?? '',
  BELL_AUDIENCE: process.env['BELL_AUDIENCE'] ?? '',
  BELL_DATABASE_URL: process.env['BELL_DATABASE_URL'] ?? '',
  BELL_CONTROL: process.env['BELL_CONTROL'] ?? '',
};

export const missingSettings = Object.entries(settings).flatMap(([name, value]) =>
  value === '' ? [name] : [],
);

/** `serve()` replaces the global one. */
const fetchFromGateway = globalThis.fetch;

export function fetchStream(init?: RequestInit): Promise<Response> {
  return fetchFromGateway(settings.BELL_URL, init);
}

export const database = new pg.Client({ connectionString: settings.BELL_DATABASE_URL });

/** A user whom only this test knows, with a token as the app signs it. */
export async function createUser(): Promise<Login> {
  const id = randomUUID();
  const user = { id, name: `Ada ${id}`, email: `${id}@example.com` };
  await database.query(
    `INSERT INTO users (id, email, name, password_hash) VALUES ($1, $2, $3, '')`,
    [user.id, user.email, user.name],
  );
  return { access_token: signToken(user.id), user };
}

export async function notify(user: string, ...titles: string[]): Promise<void> {
  await database.query(
    `INSERT INTO notifications (id, user_id, kind, title, body, created_at)
     SELECT gen_random_uuid(), $1, 'success', title, 'by SQL', clock_timestamp()
     FROM unnest($2::text[]) AS title`,
    [user, titles],
  );
}

/** The list and the count of one moment, as the REST API answers them. */
export async function listOf(user: string, limit: string | null) {
  const { rows } = await database.query(
    `WITH own AS (
       SELECT id, kind AS type, title, body AS message, link, created_at,
              CASE WHEN read_at IS NULL THEN 'unread' ELSE 'read' END AS status
       FROM notifications WHERE user_id = $1
     ), newest AS (
       SELECT * FROM own ORDER BY created_at DESC, id LIMIT $2
     )
     SELECT (SELECT coalesce(json_agg(newest), '[]') FROM newest) AS notifications,
            (SELECT count(*)::int FROM own WHERE status = 'unread') AS unread_count`,
    [user, limit],
  );
  return rows[0];
}

export async function unreadCount(user: string): Promise<number> {
  const { rows } = await database.query(
    'SELECT count(*)::int AS count FROM notifications WHERE user_id = $1 AND read_at IS NULL',
    [user],
  );
  return rows[0].count;
}

/** Marks these as read, or all of them without `ids`. */
export async function markAsRead(user: string, ids?: string[]): Promise<void> {
  await database.query(
    `UPDATE notifications SET read_at = now()
     WHERE user_id = $1 AND read_at IS NULL AND ($2::uuid[] IS NULL OR id = ANY ($2))`,
    [user, ids],
  );
}

export async function control(command: 'stop' | 'start'): Promise<void> {
  const url = `${settings.BELL_CONTROL}/gateway/${command}`;
  const response = await fetchFromGateway(url, { method: 'POST' });
  if (!response.ok) throw new Error(`${url} answered ${response.status}.`);
}

function signToken(user: string): string {
  const now = Math.floor(Date.now() / 1000);
  const claims = { sub: user, aud: settings.BELL_AUDIENCE, iat: now, exp: now + 900 };
  const signed = [{ alg: 'HS256', typ: 'JWT' }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  return `${signed}.${createHmac('sha256', settings.BELL_SECRET).update(signed).digest('base64url')}`;
}
