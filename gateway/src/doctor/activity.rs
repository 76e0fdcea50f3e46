//! What else goes on in the server, and holds the gateway up.

use std::time::Duration;

use tokio_postgres::Error;

use super::{Finding, Verdict, reach::Reading};

/// The queue is 8 GB as Postgres comes (`max_notify_queue_pages` since PostgreSQL 17). The alerts of
/// `deploy/prometheus/rules.yml` begin later: who runs the doctor wants to know early.
const QUEUE_WARNING: f64 = 0.1;
const QUEUE_WRONG: f64 = 0.5;

/// `long` is a transaction that is open for longer: it holds every replay's look back to its
/// beginning, and keeps vacuum from the log.
pub(super) async fn examine(
    client: &Reading,
    long: Duration,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    queue(client, findings).await?;
    transactions(client, long, findings).await?;
    prepared(client, long, findings).await?;
    dumps(client, findings).await
}

/// The SQL for what was `long` before now.
fn long_ago(long: Duration) -> String {
    format!("clock_timestamp() - {} * interval '1 second'", long.as_secs_f64())
}

async fn queue(client: &Reading, findings: &mut Vec<Finding>) -> Result<(), Error> {
    let rows = client.rows("SELECT pg_notification_queue_usage()").await?;
    let used: f64 = rows.first().and_then(|row| row[0].as_deref()?.parse().ok()).unwrap_or(0.0);
    let what = format!("Postgres' notification queue is {:.1} % full", used * 100.0);
    if used < QUEUE_WARNING {
        findings.push(Finding::new("queue", Verdict::Ok, what));
        return Ok(());
    }
    let verdict = if used < QUEUE_WRONG { Verdict::Warning } else { Verdict::Wrong };
    let what = format!(
        "{what}; when it is full, commits that notify fail. It is held by a session that has said \
         LISTEN, in any database, and stays in a transaction"
    );
    // Postgres does not show who listens. A transaction that holds the queue is an old one.
    let oldest = client
        .rows(
            "SELECT a.pid, a.usename, a.datname, a.application_name, a.state, \
                    date_trunc('second', clock_timestamp() - a.xact_start) \
               FROM pg_stat_activity AS a \
              WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() \
                AND a.xact_start IS NOT NULL ORDER BY a.xact_start LIMIT 1",
        )
        .await?;
    let Some(row) = oldest.first() else {
        // Where those of other roles cannot be seen, `transactions` says so, with the GRANT.
        findings.push(Finding::new("queue", verdict, what));
        return Ok(());
    };
    let part = |at: usize| row[at].as_deref().unwrap_or("?");
    let what = format!(
        "{what}; the oldest transaction is that of process {} ({}, database {}, {}, {}), open for {}",
        part(0),
        part(1),
        part(2),
        part(3),
        part(4),
        part(5),
    );
    findings.push(
        Finding::new("queue", verdict, what)
            .mended_by(format!("SELECT pg_terminate_backend({});", part(0))),
    );
    Ok(())
}

async fn transactions(
    client: &Reading,
    long: Duration,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let began = long_ago(long);
    let rows = client
        .rows(&format!(
            "SELECT a.pid, a.usename, a.application_name, a.state, \
                    date_trunc('second', clock_timestamp() - a.xact_start) \
               FROM pg_stat_activity AS a \
              WHERE a.datname = current_database() AND a.xact_start < {began} \
                AND a.backend_type = 'client backend' ORDER BY a.xact_start LIMIT 5"
        ))
        .await?;
    for row in &rows {
        let part = |at: usize| row[at].as_deref().unwrap_or("?");
        let what = format!(
            "process {} ({}, {}, {}) has had a transaction open for {}: replays look back to its \
             beginning, and the log is not vacuumed",
            part(0),
            part(1),
            part(2),
            part(3),
            part(4),
        );
        findings.push(
            Finding::new("transactions", Verdict::Warning, what)
                .mended_by(format!("SELECT pg_terminate_backend({});", part(0))),
        );
    }
    let sees_all = client
        .rows("SELECT pg_has_role('pg_read_all_stats', 'USAGE'), quote_ident(current_user)")
        .await?;
    let is_blind = sees_all.first().is_some_and(|row| row[0].as_deref() == Some("f"));
    if is_blind {
        let me = sees_all[0][1].as_deref().unwrap_or_default();
        let what = "transactions of other roles cannot be seen, so long ones would go unnoticed";
        findings.push(
            Finding::new("transactions", Verdict::Note, what)
                .mended_by(format!("GRANT pg_read_all_stats TO {me};")),
        );
    } else if rows.is_empty() {
        let long = humantime::format_duration(long);
        let what = format!("no transaction has been open for {long}");
        findings.push(Finding::new("transactions", Verdict::Ok, what));
    }
    Ok(())
}

async fn prepared(
    client: &Reading,
    long: Duration,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let began = long_ago(long);
    let rows = client
        .rows(&format!(
            "SELECT format('%L', x.gid), x.owner FROM pg_prepared_xacts AS x \
              WHERE x.database = current_database() AND x.prepared < {began} \
              ORDER BY x.prepared LIMIT 5"
        ))
        .await?;
    for row in &rows {
        let gid = row[0].as_deref().unwrap_or_default();
        let what = format!(
            "the prepared transaction {gid} of {} is open for more than {}: replays look back to \
             its beginning",
            row[1].as_deref().unwrap_or_default(),
            humantime::format_duration(long)
        );
        findings.push(
            Finding::new("transactions", Verdict::Warning, what)
                .mended_by(format!("ROLLBACK PREPARED {gid};")),
        );
    }
    Ok(())
}

/// Roles that read all of the application's tables, as a backup does, and not ours: `pg_dump`
/// locks every table that it is to dump. One that is called a backup is warned of; others, the
/// application's own role among them, may never dump anything.
async fn dumps(client: &Reading, findings: &mut Vec<Finding>) -> Result<(), Error> {
    let rows = client
        .rows(
            "WITH relation AS ( \
               SELECT c.oid, n.oid AS namespace, n.nspname = 'notify_gateway' AS is_ours \
                 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
                WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname <> 'information_schema' \
                  AND n.nspname NOT LIKE 'pg\\_%'), \
             reader AS ( \
               SELECT quote_ident(r.rolname) AS name, r.rolname ~* '(backup|dump)' AS is_named, \
                      bool_and(NOT relation.is_ours OR may.dump) AS dumps_ours, \
                      bool_and(relation.is_ours OR may.dump) AS dumps_others, \
                      bool_or(NOT relation.is_ours) AS has_others \
                 FROM pg_roles AS r CROSS JOIN relation \
                CROSS JOIN LATERAL ( \
                  SELECT has_schema_privilege(r.oid, relation.namespace, 'USAGE') \
                         AND has_table_privilege(r.oid, relation.oid, 'SELECT') AS dump) AS may \
                WHERE r.rolcanlogin AND NOT r.rolsuper \
                GROUP BY r.rolname) \
             SELECT is_named, string_agg(name, ', ' ORDER BY name) FROM reader \
              WHERE NOT dumps_ours AND (is_named OR dumps_others AND has_others) GROUP BY 1",
        )
        .await?;
    for row in &rows {
        let is_named = row[0].as_deref() == Some("t");
        let verdict = if is_named { Verdict::Warning } else { Verdict::Note };
        let roles = row[1].as_deref().unwrap_or_default();
        let what = format!(
            "a pg_dump of the whole database by {roles} fails: it may not read the schema \
             notify_gateway"
        );
        findings.push(
            Finding::new("backup", verdict, what)
                .mended_by(format!("GRANT USAGE ON SCHEMA notify_gateway TO {roles};"))
                .mended_by(format!(
                    "GRANT SELECT ON ALL TABLES IN SCHEMA notify_gateway TO {roles};"
                ))
                .mended_by(format!(
                    "GRANT SELECT ON ALL SEQUENCES IN SCHEMA notify_gateway TO {roles};"
                )),
        );
    }
    Ok(())
}
