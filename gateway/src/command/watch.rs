//! `notify-gateway watch`.

use super::{Failure, apply::Apply};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The table, with its schema where that is not public, as SQL writes it:
    /// app.alerts, '"App"."Alerts"'
    #[arg(value_name = "TABLE")]
    table: String,
    /// Whose a row is: a column, or an SQL expression of the columns
    #[arg(long, value_name = "COLUMN")]
    user_id: Option<String>,
    /// What a row is called: a column, or an expression
    #[arg(long, value_name = "COLUMN")]
    id: Option<String>,
    /// The name of the event that a new row makes [default: notification]
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// What the event carries, a JSON object of names and columns or expressions
    /// [default: every column]
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    /// Which rows are told: a condition [default: every row]
    #[arg(long, value_name = "SQL")]
    when: Option<String>,
    /// What NOTIFY carries: row, ring or never [default: row]
    #[arg(long, value_name = "WHAT")]
    ring: Option<String>,
    #[command(flatten)]
    apply: Apply,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.apply.print_or_run(&sql(arguments))
}

fn sql(arguments: &Arguments) -> String {
    let Arguments { table, user_id, id, event, data, when, ring, .. } = arguments;
    let mut sql = format!("SELECT notify_gateway.watch({}", literal(table));
    for (name, value) in [
        ("user_id", user_id),
        ("id", id),
        ("event", event),
        ("data", data),
        ("\"when\"", when),
        ("ring", ring),
    ] {
        if let Some(value) = value {
            sql += &format!(",\n    {name} => {}", literal(value));
        }
    }
    sql + ");\n"
}

/// A text as SQL writes it, whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn what_is_said_is_an_argument_and_nothing_else() {
        let line = ["watch", "app.alerts", "--user-id", "recipient_id", "--when", r"a = 'x\'"];
        let Command { arguments } = Command::parse_from(line);
        assert_eq!(
            sql(&arguments),
            "SELECT notify_gateway.watch('app.alerts',\n    user_id => 'recipient_id',\n    \
             \"when\" => E'a = ''x\\\\''');\n"
        );
    }
}
