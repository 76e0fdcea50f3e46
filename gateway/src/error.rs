//! Errors as people read them.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// An error and its causes on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries' wrappers repeat their cause word for word.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}

/// How long a burst of one kind of failure is answered by one log line.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Lets one log line pass in each `LOG_INTERVAL`.
#[derive(Debug, Default)]
pub struct LogGate(Mutex<Option<Instant>>);

impl LogGate {
    /// Whether the line may be written.
    pub fn opens(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock();
        let is_open = last.is_none_or(|last| now - last >= LOG_INTERVAL);
        if is_open {
            *last = Some(now);
        }
        is_open
    }
}

/// So many causes of one outage are told; a cause whose text has a number in it that changes would
/// fill the log.
const MAX_CAUSES: usize = 8;

/// Something that fails again and again until it works: each cause is one line in the log, however
/// often it is met, until the outage is over.
#[derive(Debug, Default)]
pub struct Outage {
    causes: Vec<String>,
}

impl Outage {
    /// It has failed; whether this cause has not been told in this outage.
    pub fn is_new(&mut self, cause: &str) -> bool {
        let is_new = self.causes.len() < MAX_CAUSES && !self.causes.iter().any(|it| it == cause);
        if is_new {
            self.causes.push(cause.to_owned());
        }
        is_new
    }

    /// It works; whether it failed before.
    pub fn ends(&mut self) -> bool {
        !std::mem::take(&mut self.causes).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_of_an_outage_is_told_once_and_a_new_outage_tells_it_again() {
        let mut outage = Outage::default();
        assert!(!outage.ends());
        assert!(outage.is_new("refused") && !outage.is_new("refused"));
        assert!(outage.is_new("wrong password") && !outage.is_new("refused"));
        assert!(outage.ends() && !outage.ends());
        assert!(outage.is_new("refused"));
        let told = (0..1000).filter(|n| outage.is_new(&n.to_string())).count();
        assert_eq!(told, MAX_CAUSES - 1);
    }
}
