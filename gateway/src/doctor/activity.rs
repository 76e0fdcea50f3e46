//! What else goes on in the server, and holds the gateway up.

use std::time::Duration;

use tokio_postgres::Error;

use super::{Finding, Verdict, reach::Reading};

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
    findings.push(if used < 0.1 {
        Finding::new("queue", Verdict::Ok, what)
    } else {
        let verdict = if used < 0.5 { Verdict::Warning } else { Verdict::Wrong };
        let what = format!(
            "{what}: a session that has said LISTEN and stays in a transaction holds it; when it \
             is full, commits that notify fail"
        );
        Finding::new("queue", verdict, what).mended_by(
            "SELECT pid, usename, application_name, xact_start FROM pg_stat_activity \
             WHERE state LIKE 'idle in transaction%' ORDER BY xact_start;",
        )
    });
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
/// locks every table that it is to dump.
async fn dumps(client: &Reading, findings: &mut Vec<Finding>) -> Result<(), Error> {
    let rows = client
        .rows(
            "SELECT quote_ident(r.rolname) FROM pg_roles AS r \
              WHERE r.rolcanlogin AND NOT r.rolsuper \
                AND r.rolname ~* '(backup|dump)' \
                AND EXISTS (SELECT FROM pg_namespace AS n WHERE n.nspname = 'notify_gateway' \
                              AND (NOT has_schema_privilege(r.oid, n.oid, 'USAGE') \
                                   OR EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = n.oid \
                                                AND c.relkind IN ('r', 'S') \
                                                AND NOT has_table_privilege(r.oid, c.oid, 'SELECT')))) \
              ORDER BY 1 LIMIT 5",
        )
        .await?;
    for row in &rows {
        let role = row[0].as_deref().unwrap_or_default();
        let what = format!(
            "a pg_dump of the whole database by {role} fails: it may not read the schema \
             notify_gateway"
        );
        findings.push(
            Finding::new("backup", Verdict::Warning, what)
                .mended_by(format!("GRANT USAGE ON SCHEMA notify_gateway TO {role};"))
                .mended_by(format!(
                    "GRANT SELECT ON ALL TABLES IN SCHEMA notify_gateway TO {role};"
                ))
                .mended_by(format!(
                    "GRANT SELECT ON ALL SEQUENCES IN SCHEMA notify_gateway TO {role};"
                )),
        );
    }
    Ok(())
}
