//! Every log of the whole test run is read: a token, a secret, a password or the text of a
//! notification in one ends the run.

use std::{io, sync::Once};

use notify_gateway::{config::LogFormat, telemetry};

use super::SECRET;

/// What gateways of the tests are asked to tell: everything.
pub(crate) const DIRECTIVES: &str = "info,notify_gateway=trace";

/// The message of the tests' notifications.
pub(crate) const MESSAGE: &str = "the text of a notification, which no log may hold";

/// A JSON object in base64url, as each part of a JWT but its signature is.
const TOKEN: &str = "eyJ";

/// The password of the gateway's role, in a URL.
const PASSWORD: &str = "bell:bell@";

/// The log of the gateways in this process is read from here on.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _nothing_is_exported =
            telemetry::init_with(LogFormat::Json, DIRECTIVES, || Reader).unwrap();
    });
}

/// A piece of a log.
pub(crate) fn read(text: &str) {
    for secret in [SECRET, MESSAGE, TOKEN, PASSWORD] {
        if text.contains(secret) {
            use std::io::Write as _;
            // Past the capture of the test's output: whose test it is nobody can say.
            let _said = writeln!(io::stderr(), "A LOG HOLDS A SECRET ({secret}):\n{text}");
            std::process::abort();
        }
    }
}

struct Reader;

impl io::Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        read(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
