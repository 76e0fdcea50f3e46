import type { InitialData, Page } from '@notify-gateway/client';
import { Pool } from 'pg';

const pool = new Pool({ connectionString: process.env['DATABASE_URL'] });

/** The rows come as JSON, with their times as text: a row of the client has no `Date`. */
const PAGE = `
  SELECT
    (SELECT count(*)::int FROM notifications WHERE user_id = $1 AND status = 'unread')
      AS "unreadCount",
    (SELECT coalesce(json_agg(newest), '[]') FROM (
      SELECT id, type, title, message, status, metadata, created_at, related_session_id
      FROM notifications
      WHERE user_id = $1 AND status <> 'archived'
      ORDER BY created_at DESC LIMIT $2
    ) newest) AS notifications`;

/** List and count of one instant, since they are of one statement. */
export async function readPage(user: string, limit: number): Promise<Page> {
  const { rows } = await pool.query<Page>(PAGE, [user, limit]);
  return rows[0] ?? { notifications: [], unreadCount: 0 };
}

/**
 * The same for the first render, with the cursor of that very instant: the stream begins
 * exactly there, so that no row is missed and none is told of twice.
 */
export async function readInitialData(user: string): Promise<InitialData> {
  const sql = `${PAGE}, notify_gateway.cursor() AS cursor`;
  const { rows } = await pool.query<Page & { cursor: string | null }>(sql, [user, 20]);
  const { cursor = null, ...page } = rows[0] ?? { notifications: [], unreadCount: 0 };
  // A standby has no cursor; the stream then begins two seconds back.
  return { user, ...page, cursor: cursor ?? undefined };
}

/** Marks these of the user's as read; without ids, all. */
export async function markAsRead(user: string, ids: readonly string[] | null): Promise<void> {
  await pool.query(
    `UPDATE notifications SET status = 'read'
     WHERE user_id = $1 AND status = 'unread' AND ($2::uuid[] IS NULL OR id = ANY($2::uuid[]))`,
    [user, ids],
  );
}
