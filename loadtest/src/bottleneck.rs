//! Who was too slow: pure. Numbers taken while the load generator was at its
//! limit are its own, and the report has to say so.

use serde::{Deserialize, Serialize};

/// A thread that is busy this share of the time has a queue before it.
const BUSY: f64 = 0.85;

/// All cores together: above this, who runs is a matter of luck.
const MACHINE_BUSY: f64 = 0.95;

/// Clients this late see everything late, in milliseconds.
const LAG_MS: f64 = 20.0;

/// A schedule kept worse than this is none, in milliseconds.
const LATENESS_MS: f64 = 20.0;

/// What was seen while it was measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Observed {
    /// The busiest client process, in cores.
    pub(crate) worker_cores: f64,
    /// The share of the time in which the clients wanted a core and had none.
    pub(crate) waiting: f64,
    /// The writer's thread, in cores.
    pub(crate) writer_cores: f64,
    /// The p99 of the clients' event loops.
    pub(crate) lag_p99_ms: f64,
    /// The p99 of how late transactions were sent; none where there was no
    /// schedule.
    pub(crate) lateness_p99_ms: Option<f64>,
    pub(crate) server_cores: Option<f64>,
    pub(crate) postgres_cores: Option<f64>,
    /// The share of all cores that anyone used.
    pub(crate) machine: Option<f64>,
    /// Rows went as fast as they were taken.
    pub(crate) saturating: bool,
}

/// Who held the others up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Who {
    Nobody,
    LoadGenerator,
    Machine,
    Server,
    Writing,
}

/// The judgement, and its grounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bottleneck {
    pub(crate) who: Who,
    pub(crate) why: String,
}

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::LoadGenerator => "THE LOAD GENERATOR",
            Self::Machine => "the machine",
            Self::Server => "the server",
            Self::Writing => "the writing of rows",
        }
    }
}

/// Finds out.
pub(crate) fn find(seen: &Observed) -> Bottleneck {
    let machine = seen.machine.unwrap_or(0.0);
    let server = seen.server_cores.unwrap_or(0.0);
    let (who, why) = if seen.worker_cores >= BUSY {
        let why = format!(
            "a client process used {:.2} of a core; take more --workers",
            seen.worker_cores
        );
        (Who::LoadGenerator, why)
    } else if seen.writer_cores >= BUSY {
        (Who::LoadGenerator, format!("the writer's thread used {:.2} of a core", seen.writer_cores))
    } else if machine >= MACHINE_BUSY {
        (
            Who::Machine,
            format!("all cores were {:.0} % busy: everyone waited for everyone", machine * 100.0),
        )
    } else if seen.lag_p99_ms > LAG_MS && seen.waiting > seen.worker_cores {
        let (late, waited) = (seen.lag_p99_ms, seen.waiting * 100.0);
        let why = format!(
            "the clients were late (p99 {late:.0} ms), {waited:.0} % of the time for want of a core"
        );
        (Who::Machine, why)
    } else if seen.lag_p99_ms > LAG_MS {
        let why = format!("the clients' event loops were late: p99 {:.0} ms", seen.lag_p99_ms);
        (Who::LoadGenerator, why)
    } else if let Some(late) = seen.lateness_p99_ms.filter(|&late| late > LATENESS_MS) {
        (Who::LoadGenerator, format!("rows were sent late: p99 {late:.0} ms after their time"))
    } else if server >= BUSY {
        (Who::Server, format!("it used {server:.2} cores"))
    } else if seen.saturating {
        let postgres =
            seen.postgres_cores.map_or(String::new(), |cores| format!(", Postgres {cores:.2}"));
        (Who::Writing, format!("the server used {server:.2} cores{postgres}: it waited for rows"))
    } else {
        (Who::Nobody, "the schedule was kept, with room to spare".to_owned())
    };
    Bottleneck { who, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(seen: Observed) -> Who {
        find(&seen).who
    }

    #[test]
    fn a_generator_at_its_limit_is_named_before_anyone_else() {
        let seen = Observed { server_cores: Some(1.0), machine: Some(1.0), ..Observed::default() };
        assert_eq!(who(Observed { worker_cores: 0.9, ..seen }), Who::LoadGenerator);
        assert_eq!(who(Observed { writer_cores: 0.9, ..seen }), Who::LoadGenerator);
        assert_eq!(who(seen), Who::Machine);
    }

    #[test]
    fn late_clients_and_late_rows_are_the_generators_fault() {
        let seen = Observed::default();
        assert_eq!(who(Observed { lag_p99_ms: 25.0, ..seen }), Who::LoadGenerator);
        assert_eq!(who(Observed { lateness_p99_ms: Some(25.0), ..seen }), Who::LoadGenerator);
        assert_eq!(who(Observed { lag_p99_ms: 25.0, waiting: 0.1, ..seen }), Who::Machine);
        assert_eq!(
            who(Observed { lag_p99_ms: 5.0, lateness_p99_ms: Some(5.0), ..seen }),
            Who::Nobody
        );
    }

    #[test]
    fn a_busy_server_is_one_and_an_idle_one_waits_for_rows() {
        let seen = Observed { saturating: true, ..Observed::default() };
        assert_eq!(who(Observed { server_cores: Some(0.9), ..seen }), Who::Server);
        assert_eq!(who(Observed { server_cores: Some(0.4), ..seen }), Who::Writing);
    }
}
