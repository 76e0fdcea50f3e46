//! The watched tables: whether their rows become events.

use tokio_postgres::Error;

use super::{
    Finding, Verdict,
    reach::{Reading, Row},
};

/// What is watched, with the call that watches it in the same way, its trigger, and the columns that
/// it names and no longer has.
const WATCHED: &str = r#"
    SELECT w.id, w.relation, w.trigger, w.problem, w.problem_text,
           format('SELECT notify_gateway.watch(%L, user_id => %L, id => %L, event => %L%s%s, ring => %L);',
                  w.relation, w.user_id, w.row_id, w.event,
                  CASE WHEN w.data IS NOT NULL THEN format(', data => %L', w.data) END,
                  CASE WHEN w."when" IS NOT NULL THEN format(', "when" => %L', w."when") END, w.ring),
           quote_ident(t.tgname), w.ring,
           (SELECT string_agg(DISTINCT named.name, ', ')
              FROM (SELECT w.user_id AS name UNION ALL SELECT w.row_id
                    UNION ALL SELECT j.value FROM json_each_text(w.data) AS j) AS named
             WHERE named.name ~ '^("[^"]+"|[a-z_][a-z0-9_$]*)$'
               AND NOT EXISTS (SELECT FROM pg_attribute AS a
                                WHERE a.attrelid = t.tgrelid AND a.attnum > 0 AND NOT a.attisdropped
                                  AND named.name IN (a.attname, quote_ident(a.attname))))
      FROM notify_gateway.watched AS w
      LEFT JOIN LATERAL (
        SELECT t.tgname, t.tgrelid FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
         WHERE p.proname = 'watch_' || w.id AND p.pronamespace = 'notify_gateway'::regnamespace
           AND t.tgparentid = 0
         ORDER BY t.oid LIMIT 1) AS t ON true
     ORDER BY w.id"#;

/// Columns whose type is another than when their table was watched.
const RETYPED: &str = "
    SELECT t.tgrelid::regclass, string_agg(DISTINCT a.attname::text, ', ')
      FROM pg_trigger AS t
      JOIN pg_proc AS p ON p.oid = t.tgfoid AND p.pronamespace = 'notify_gateway'::regnamespace
      CROSS JOIN LATERAL regexp_matches(p.prosrc,
        'as_watched\\((?:NEW|OLD|r)\\.(\"(?:[^\"]|\"\")+\"|[a-z0-9_]+), NULL::([^)]+)\\)', 'g') AS m
      JOIN pg_attribute AS a ON a.attrelid = t.tgrelid AND quote_ident(a.attname) = m[1]
     WHERE t.tgparentid = 0 AND to_regtype(m[2])::oid <> a.atttypid
     GROUP BY 1";

pub(super) async fn examine(client: &Reading, findings: &mut Vec<Finding>) -> Result<(), Error> {
    let watched = client.rows(WATCHED).await?;
    if watched.is_empty() {
        let what = "no table is watched: nothing that is written is told to anybody";
        let mend =
            "SELECT notify_gateway.watch('your_table', user_id => 'the_column_of_the_user');";
        findings.push(Finding::new("table", Verdict::Wrong, what).mended_by(mend));
    }
    findings.extend(watched.iter().flat_map(table));
    let calls: Vec<_> = watched.iter().map(|row| (text(row, 1), text(row, 5))).collect();
    for row in client.rows(RETYPED).await? {
        let (relation, columns) = (text(&row, 0), text(&row, 1));
        let what = format!(
            "{relation}: {columns} got another type since the table was watched; its events are \
             made by a slower statement, and may look different"
        );
        let finding = Finding::new("table", Verdict::Warning, what);
        let call = calls.iter().find(|(of, _)| *of == relation).map(|(_, call)| *call);
        findings.push(finding.mended_by(call.unwrap_or_default()));
    }
    Ok(())
}

fn text(row: &Row, at: usize) -> &str {
    row[at].as_deref().unwrap_or_default()
}

/// All that is the matter with one table: its trigger may be disabled and a column gone as well.
fn table(row: &Row) -> Vec<Finding> {
    let (relation, call) = (text(row, 1), text(row, 5));
    let finding =
        |verdict, what: &str| Finding::new("table", verdict, format!("{relation}: {what}"));
    let enable = || format!("ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {};", text(row, 6));
    let mut findings = Vec::new();
    match text(row, 2) {
        "no table" => {
            let what = "it is watched, and there is no such table";
            return vec![
                finding(Verdict::Warning, what)
                    .mended_by(format!("SELECT notify_gateway.unwatch(id => {});", text(row, 0))),
            ];
        }
        "no trigger" => findings.push(
            finding(Verdict::Wrong, "its trigger is gone, so its rows make no events")
                .mended_by(call),
        ),
        "disabled" => findings.push(
            finding(
                Verdict::Wrong,
                "its trigger is disabled, so its rows make no events (somebody may be backfilling)",
            )
            .mended_by(enable()),
        ),
        "replica" => findings.push(
            finding(Verdict::Wrong, "its trigger fires for replicated rows only")
                .mended_by(enable()),
        ),
        "origin" => findings.push(
            finding(
                Verdict::Warning,
                "its trigger does not fire for rows that logical replication or \
                 session_replication_role = replica writes",
            )
            .mended_by(enable()),
        ),
        _ => {}
    }
    let gone = text(row, 8);
    if !gone.is_empty() {
        findings.push(
            finding(
                Verdict::Wrong,
                &format!("it has no {gone} any more, so its rows make no events"),
            )
            .mended_by(format!("{call}  -- with another column in the place of {gone}")),
        );
    } else if row[3].is_some() {
        let what = format!(
            "some of its rows could not be made events (SQLSTATE {}) {}",
            text(row, 3),
            text(row, 4)
        );
        findings.push(finding(Verdict::Wrong, &what).mended_by(call));
    }
    if findings.is_empty() {
        findings.push(match text(row, 7) {
            "never" => finding(
                Verdict::Note,
                "watched; ring => 'never': its rows come with the next sweep",
            ),
            _ => finding(Verdict::Ok, "watched"),
        });
    }
    findings
}
