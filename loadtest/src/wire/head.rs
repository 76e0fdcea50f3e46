//! The head of an answer: RFC 9112.

use memchr::memmem;

use super::{WireError, chunked::Chunked};

/// A head over this is nobody's we want to measure.
const MAX_HEAD_BYTES: usize = 64 * 1024;

const END: &[u8] = b"\r\n\r\n";

/// What matters of a head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) framing: Framing,
}

/// How the body's end is found: RFC 9112, section 6.3.
#[derive(Debug)]
pub(super) enum Framing {
    Chunked(Chunked),
    Length(u64),
    UntilClose,
}

/// Moves what belongs to the head from `bytes` to `kept`; what follows the
/// head, once it is whole.
pub(super) fn take<'a>(kept: &mut Vec<u8>, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, WireError> {
    let before = kept.len();
    kept.extend_from_slice(bytes);
    // The end may lie across two reads.
    let from = before.saturating_sub(END.len() - 1);
    match memmem::find(&kept[from..], END) {
        Some(at) => {
            let end = from + at + END.len();
            kept.truncate(end);
            Ok(Some(&bytes[end - before..]))
        }
        None if kept.len() > MAX_HEAD_BYTES => Err(WireError::HeadTooLong),
        None => Ok(None),
    }
}

/// Reads a whole head.
pub(super) fn parse(head: &[u8]) -> Result<Head, WireError> {
    let head = std::str::from_utf8(head).map_err(|_| WireError::NotHttp)?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|line| line.get(2..5)?.parse().ok())
        .ok_or(WireError::NotHttp)?;
    let mut framing = Framing::UntilClose;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") {
            // It goes before a length, whichever comes first.
            if value.to_ascii_lowercase().ends_with("chunked") {
                framing = Framing::Chunked(Chunked::default());
            }
        } else if name.eq_ignore_ascii_case("content-length")
            && let (Ok(length), Framing::UntilClose) = (value.parse(), &framing)
        {
            framing = Framing::Length(length);
        }
    }
    Ok(Head { status, framing })
}
