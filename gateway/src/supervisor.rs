//! The tasks that a gateway cannot live without, all watched: one that ends by
//! itself, or panics, is the end of the gateway. A process that is half alive
//! would look well to those who watch it.

use std::{any::Any, collections::HashMap};

use tokio::task::{Id, JoinError, JoinSet};

/// Owns tasks, each with a name; dropped, it aborts them.
#[derive(Default)]
pub struct Supervisor {
    tasks: JoinSet<String>,
    names: HashMap<Id, &'static str>,
}

/// A task that has ended.
#[derive(Debug, thiserror::Error)]
#[error("the task {task:?} has ended: {reason}")]
pub struct TaskEnded {
    /// Its name.
    pub task: &'static str,
    /// What it returned, or what it panicked with.
    pub reason: String,
}

impl Supervisor {
    /// Runs a task, which should not end.
    pub fn spawn<F>(&mut self, name: &'static str, task: F)
    where
        F: Future + Send + 'static,
        F::Output: EndReason,
    {
        let handle = self.tasks.spawn(async move { task.await.reason() });
        self.names.insert(handle.id(), name);
    }

    /// Waits for the first task that ends.
    pub async fn ended(&mut self) -> TaskEnded {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, reason))) => TaskEnded { task: self.name(id), reason },
            Some(Err(error)) => TaskEnded { task: self.name(error.id()), reason: panic(error) },
            None => std::future::pending().await,
        }
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Ends them all.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("unnamed")
    }
}

/// What a task that has returned says of it.
pub trait EndReason {
    /// The reason, for the operator.
    fn reason(self) -> String;
}

impl EndReason for () {
    fn reason(self) -> String {
        "it returned".to_owned()
    }
}

impl EndReason for std::convert::Infallible {
    fn reason(self) -> String {
        match self {}
    }
}

fn panic(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was cancelled".to_owned() };
    let panic: &(dyn Any + Send) = &*panic;
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_returns_is_told_by_its_name() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("lasting", std::future::pending::<()>());
        let number = 7;
        supervisor.spawn("panics", async move {
            assert_eq!(number, 8, "a bug");
        });
        let ended = supervisor.ended().await;
        assert_eq!(ended.task, "panics");
        assert!(ended.reason.starts_with("it panicked: ") && ended.reason.contains("a bug"));
        supervisor.spawn("returns", async {});
        assert_eq!(supervisor.ended().await.task, "returns");
        supervisor.shutdown().await;
    }
}
