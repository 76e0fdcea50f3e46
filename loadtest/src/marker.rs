//! What a row carries so that it is recognised again: whose it is, which
//! transaction wrote it, its place therein, and when it was meant to be sent.
//!
//! `nglt:<run>:<user>:<transaction>:<position>:<intended_ns>`: letters, digits
//! and colons only. No server's JSON escapes any of them, so that it is found by
//! searching the data for it, whatever is built around it.

use memchr::memmem::Finder;

/// The place of a row in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// The user's number.
    pub(crate) user: u32,
    /// The number of the transaction that wrote it.
    pub(crate) transaction: u32,
    /// Its place in the transaction, over all users.
    pub(crate) position: u32,
    /// When the schedule wanted it sent, on [`crate::clock`].
    pub(crate) intended_ns: u64,
}

/// Writes and finds the markers of one run; those of others are not seen.
#[derive(Clone)]
pub(crate) struct Tag {
    prefix: String,
    finder: Finder<'static>,
}

impl Tag {
    /// The tag of the run named `run`.
    pub(crate) fn new(run: &str) -> Self {
        let prefix = format!("nglt:{run}:");
        let finder = Finder::new(prefix.as_bytes()).into_owned();
        Self { prefix, finder }
    }

    /// The text a row carries.
    pub(crate) fn write(&self, marker: Marker) -> String {
        let Marker { user, transaction, position, intended_ns } = marker;
        format!("{}{user}:{transaction}:{position}:{intended_ns}", self.prefix)
    }

    /// The first marker in `data`.
    pub(crate) fn find(&self, data: &[u8]) -> Option<Marker> {
        let start = self.finder.find(data)? + self.prefix.len();
        let (user, rest) = number(&data[start..], true)?;
        let (transaction, rest) = number(rest, true)?;
        let (position, rest) = number(rest, true)?;
        let (intended_ns, _) = number(rest, false)?;
        Some(Marker {
            user: user.try_into().ok()?,
            transaction: transaction.try_into().ok()?,
            position: position.try_into().ok()?,
            intended_ns,
        })
    }
}

/// The number at the start of `text`, and what follows it and its colon.
fn number(text: &[u8], with_colon: bool) -> Option<(u64, &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&text[..length]).ok()?.parse().ok()?;
    let rest = &text[length..];
    let rest = if with_colon { rest.strip_prefix(b":")? } else { rest };
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: Marker =
        Marker { user: 7, transaction: 4_000_000_000, position: 0, intended_ns: u64::MAX };

    #[test]
    fn what_is_written_is_found_again_inside_any_text() {
        let tag = Tag::new("a1");
        let data = format!("{{\"id\":\"x\",\"message\":\"{} padding\"}}", tag.write(MARKER));
        assert_eq!(tag.find(data.as_bytes()), Some(MARKER));
    }

    #[test]
    fn a_marker_of_another_run_is_not_ours() {
        let data = Tag::new("a1").write(MARKER);
        assert_eq!(Tag::new("a2").find(data.as_bytes()), None);
    }

    #[test]
    fn a_marker_that_is_cut_off_or_too_large_is_none() {
        let tag = Tag::new("a1");
        for data in ["nglt:a1:", "nglt:a1:1:2:3", "nglt:a1:1:2:x:4", "nglt:a1:4294967296:0:0:0"] {
            assert_eq!(tag.find(data.as_bytes()), None, "{data}");
        }
    }
}
