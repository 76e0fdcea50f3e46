//! The parameters of a request's query.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Names and values, decoded.
#[derive(Default)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// A query that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query is not valid percent-encoded UTF-8")]
pub(crate) struct QueryError;

impl<'a> Query<'a> {
    /// Decodes the whole of it, so that a client whose encoding is broken hears
    /// of it whichever parameter it broke.
    pub(crate) fn parse(query: Option<&'a str>) -> Result<Self, QueryError> {
        let pairs = query.unwrap_or_default().split('&');
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    /// Every value of `name`.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| &**value)
    }
}

fn decode(text: &str) -> Result<Cow<'_, str>, QueryError> {
    let bytes = text.as_bytes();
    let is_encoded =
        |i: usize| bytes.get(i + 1..i + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    // The decoder passes on what is no escape; nobody means that.
    if (0..bytes.len()).any(|i| bytes[i] == b'%' && !is_encoded(i)) {
        return Err(QueryError);
    }
    percent_decode_str(text).decode_utf8().map_err(|_| QueryError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_may_be_repeated() {
        let query = Query::parse(Some("a=1&b=%C3%A4&a=2&c&=x")).unwrap();
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.all("b").next(), Some("\u{e4}"));
        assert_eq!(query.all("c").next(), Some(""));
        assert_eq!(query.all("d").next(), None);
    }

    #[test]
    fn a_broken_query_is_said_to_be_broken() {
        for query in ["a=%", "a=%g1", "%ff=1&b=a", "a=%2"] {
            assert!(Query::parse(Some(query)).is_err(), "{query}");
        }
    }
}
