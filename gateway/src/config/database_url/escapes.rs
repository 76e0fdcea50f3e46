//! Where the password ends: a character that should have been escaped makes
//! every parser see another host, and some of them print it.

use super::DatabaseUrlError;

/// A character that means something in a URL, and how it is written where it
/// is to mean nothing (RFC 3986, section 2.1).
const ESCAPES: [(char, &str); 6] =
    [('@', "%40"), ('#', "%23"), ('/', "%2F"), ('?', "%3F"), (':', "%3A"), ('%', "%25")];

/// The URL up to its `?`, and what is behind it.
///
/// # Errors
///
/// An unescaped character before the last `@`. libpq would take some of them;
/// others it takes for the end of the host. Which of the two is meant nobody
/// can know, so all are refused.
pub(super) fn split(url: &str) -> Result<(&str, &str), DatabaseUrlError> {
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    if let Some(at) = url.rfind('@') {
        let credentials = url.get(after_scheme..at).unwrap_or_default();
        let found = unescaped(credentials);
        if !found.is_empty() {
            return Err(DatabaseUrlError::Unescaped(found.join(" and ")));
        }
    }
    Ok(url.split_once('?').unwrap_or((url, "")))
}

fn unescaped(credentials: &str) -> Vec<String> {
    let is_wrong = |character| match character {
        // The first one parts the user from the password.
        ':' => credentials.matches(':').count() > 1,
        '%' => !has_whole_escapes(credentials),
        _ => credentials.contains(character),
    };
    ESCAPES
        .iter()
        .filter(|(character, _)| is_wrong(*character))
        .map(|(character, escape)| format!("\"{character}\" ({escape})"))
        .collect()
}

/// Whether two hexadecimal digits follow each `%`, and name no NUL, which no
/// user and no password can hold.
fn has_whole_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00"
    })
}
