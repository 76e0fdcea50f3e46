//! Nothing outlives the harness, however it ends.
//!
//! A small shell waits for the end of its standard input, which is our end of
//! a pipe: after a kill -9 of the harness, too, the pipe closes, and the shell
//! ends the processes it was told of and removes the directory.

use std::{
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use parking_lot::Mutex;

/// Knows which processes are ours. Dropping it ends them.
pub(crate) struct Cleanup {
    shell: Child,
    orders: Mutex<Option<ChildStdin>>,
}

impl Cleanup {
    /// `directory` goes with the processes unless `keep`.
    pub(crate) fn start(directory: &Path, keep: bool) -> io::Result<Self> {
        // INT is a fast shutdown to Postgres and a drain to a gateway; what is
        // stopped by SIGSTOP hears only KILL.
        const SHELL: &str = r#"
            pids=" "
            while read -r order pid; do
                case $order in
                    add) pids="$pids$pid " ;;
                    done) pids="${pids%%" $pid "*} ${pids#*" $pid "}" ;;
                esac
            done
            for pid in $pids; do kill -INT "$pid"; done 2>/dev/null
            [ "$pids" = " " ] || sleep 2
            for pid in $pids; do kill -KILL "$pid"; done 2>/dev/null
            [ "$2" ] || rm -rf "$1""#;
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SHELL, "cleanup"])
            .arg(directory)
            .arg(if keep { "keep" } else { "" })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C goes to the terminal's whole process group: this one must
            // be there to the last.
            .process_group(0)
            .spawn()?;
        let orders = Mutex::new(shell.stdin.take());
        Ok(Self { shell, orders })
    }

    /// A process that must not outlive us.
    pub(crate) fn add(&self, pid: u32) {
        self.order("add", pid);
    }

    /// A process that is gone; its number may be somebody else's soon.
    pub(crate) fn done(&self, pid: u32) {
        self.order("done", pid);
    }

    fn order(&self, order: &str, pid: u32) {
        let mut orders = self.orders.lock();
        if let Some(orders) = orders.as_mut() {
            // The shell is gone only when somebody killed it on purpose.
            let _written = writeln!(orders, "{order} {pid}");
        }
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        drop(self.orders.lock().take());
        let _ended = self.shell.wait();
    }
}
