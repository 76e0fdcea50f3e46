//! Whether the schema is there, of this version, and usable by this role.

use std::collections::BTreeMap;

use tokio_postgres::Error;

use super::{Finding, Verdict, reach::Reading};
use crate::schema;

const APPLY: &str =
    "notify-gateway schema --apply --database-url postgres://the-owner:…@host/database";

/// False where there is no schema that anything more could be asked of.
pub(super) async fn examine(
    client: &Reading,
    channel: &str,
    findings: &mut Vec<Finding>,
) -> Result<bool, Error> {
    let wrong = |about, what: &str| Finding::new(about, Verdict::Wrong, what);
    let source = schema::sql(channel);
    let functions = client
        .rows(
            "SELECT p.proname, p.prosrc FROM pg_proc AS p \
             JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname = 'notify_gateway'",
        )
        .await?;
    if functions.is_empty() {
        let what = "the database has no schema notify_gateway: nothing records what is written";
        findings.push(wrong("schema", what).mended_by(APPLY));
        return Ok(false);
    }
    let there: BTreeMap<_, _> = functions
        .into_iter()
        .map(|row| (row[0].clone().unwrap_or_default(), row[1].clone().unwrap_or_default()))
        .collect();
    let others: Vec<_> = bodies(&source)
        .filter(|(name, body)| there.get(*name).is_none_or(|found| found != body))
        .map(|(name, _)| name)
        .collect();
    if others.is_empty() {
        findings.push(Finding::new("schema", Verdict::Ok, "the schema is of this version"));
    } else {
        let what = format!(
            "the schema is of another version than this gateway (or for another --channel): it \
             has other functions {}",
            others.join(", ")
        );
        findings.push(wrong("schema", &what).mended_by(APPLY));
    }
    let is_usable = role(client, &source, findings).await?;
    if is_usable {
        indexes(client, &source, findings).await?;
    }
    Ok(is_usable)
}

/// The functions that `schema.sql` makes, by name, with what stands in them.
fn bodies(source: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = source;
    std::iter::from_fn(move || {
        let (_, function) = rest.split_once("CREATE OR REPLACE FUNCTION notify_gateway.")?;
        let (name, text) = function.split_once('(')?;
        let (_, body) = text.split_once("$function$")?;
        // What stands in it may speak of functions as well.
        let (body, after) = body.split_once("$function$")?;
        rest = after;
        Some((name, body))
    })
}

/// What `schema.sql` lets the gateway's role do to tables: pairs of privilege and table, as the
/// lists of a VALUES.
fn privileges(source: &str) -> &str {
    let (before, _) = source.split_once(") AS t (privilege, relation)").unwrap_or_default();
    before.rsplit_once("(VALUES ").map_or("", |(_, pairs)| pairs)
}

async fn role(client: &Reading, source: &str, findings: &mut Vec<Finding>) -> Result<bool, Error> {
    let privileges = privileges(source);
    let lacking = client
        .rows(&format!(
            "SELECT quote_ident(current_user), r.oid IS NULL, \
                    r.oid IS NOT NULL AND pg_has_role(r.oid, 'USAGE'), \
                    (SELECT string_agg(g.privilege || ' on ' || split_part(g.relation, '.', 2), ', ') \
                       FROM (VALUES {privileges}) AS g (privilege, relation) \
                       LEFT JOIN pg_class AS c ON c.relnamespace = n.oid \
                                              AND c.relname = split_part(g.relation, '.', 2) \
                      WHERE c.oid IS NULL OR NOT has_table_privilege(c.oid, g.privilege) \
                         OR NOT has_schema_privilege(n.oid, 'USAGE')) \
               FROM pg_namespace AS n LEFT JOIN pg_roles AS r ON r.rolname = 'notify_gateway' \
              WHERE n.nspname = 'notify_gateway'"
        ))
        .await?;
    let Some(row) = lacking.first() else { return Ok(false) };
    let me = row[0].clone().unwrap_or_default();
    let Some(missing) = &row[3] else {
        let what = format!("{me} may do what the gateway does");
        findings.push(Finding::new("role", Verdict::Ok, what));
        return Ok(true);
    };
    let finding = Finding::new(
        "role",
        Verdict::Wrong,
        format!("{me} may not do all that the gateway does; it lacks {missing}"),
    );
    let is_true = |at: usize| row[at].as_deref() == Some("t");
    findings.push(if is_true(1) {
        finding
            .mended_by("CREATE ROLE notify_gateway NOLOGIN;")
            .mended_by(APPLY)
            .mended_by(format!("GRANT notify_gateway TO {me};"))
    } else if is_true(2) {
        finding.mended_by(APPLY)
    } else {
        finding.mended_by(format!("GRANT notify_gateway TO {me};"))
    });
    Ok(false)
}

async fn indexes(client: &Reading, source: &str, findings: &mut Vec<Finding>) -> Result<(), Error> {
    let valid = client
        .rows(
            "SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid \
             JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'notify_gateway' AND i.indisvalid",
        )
        .await?;
    for line in source.lines().map(str::trim).filter(|line| line.starts_with("CREATE INDEX ")) {
        let name = line.split_whitespace().nth(2).unwrap_or_default();
        if !valid.iter().any(|row| row[0].as_deref() == Some(name)) {
            let what = format!(
                "the index {name} is missing or not valid: replays and sweeps read whole tables"
            );
            let finding = Finding::new("index", Verdict::Wrong, what);
            findings.push(
                finding
                    .mended_by(format!("DROP INDEX IF EXISTS notify_gateway.{name};"))
                    .mended_by(line),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_the_schema_is_found_with_its_body() {
        let source = schema::sql("notifications");
        let found: Vec<_> = bodies(&source).collect();
        assert_eq!(found.len() * 2, source.matches("$function$").count());
        assert!(privileges(&source).starts_with("('SELECT', 'notify_gateway.event')"));
        assert!(privileges(&source).ends_with("('SELECT', 'notify_gateway.revocation')"));
        assert!(found.iter().any(|(name, body)| *name == "cursor" && !body.is_empty()));
    }
}
