//! What becomes of a request for the stream: pure, so that the order in which
//! its reasons count is a table.

use crate::{
    auth::TokenError,
    http::credentials::CredentialError,
    outcome::Refusal,
    problem::{Kind, Problem},
};

/// What is known about a request for the stream.
pub(super) struct Facts {
    /// The feature flag.
    pub(super) is_enabled: bool,
    /// Whether the query could be decoded.
    pub(super) is_query_valid: bool,
    /// Whether its token is good, revocations apart.
    pub(super) token: Result<(), Denial>,
    /// Why its token has been revoked, if it has.
    pub(super) revoked: Option<TokenError>,
    /// Whether the address or the user tries too often.
    pub(super) is_flooded: bool,
    /// Whether the gateway has been ready since it started.
    pub(super) has_been_ready: bool,
}

/// What becomes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// 204, by which `EventSource` stops for good.
    Off,
    /// A status that says what is wrong with the request.
    Deny(Denial),
    /// Nothing is known to be wrong with the request; it comes again later.
    Refuse(Refusal),
    /// A stream.
    Open,
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// It has no token that could be looked at.
    Credentials(CredentialError),
    /// Its token is not good.
    Token(TokenError),
    /// Its query cannot be decoded.
    Query,
}

/// A bad token is told so whatever else is the matter, and a revoked one is a
/// bad one: all that follows is for those who may come in.
pub(super) fn decide(facts: Facts) -> Decision {
    if !facts.is_enabled {
        return Decision::Off;
    }
    match facts.token {
        // The token may be in the query.
        Err(Denial::Credentials(CredentialError::Missing)) if !facts.is_query_valid => {
            return Decision::Deny(Denial::Query);
        }
        // Nobody can say yet whether it is a good one, and a browser takes a status for good.
        Err(Denial::Token(TokenError::NoKeys)) => return Decision::Refuse(Refusal::NoKeys),
        Err(denial) => return Decision::Deny(denial),
        Ok(()) => {}
    }
    if let Some(error) = facts.revoked {
        return Decision::Deny(Denial::Token(error));
    }
    if !facts.is_query_valid {
        return Decision::Deny(Denial::Query);
    }
    if facts.is_flooded {
        return Decision::Refuse(Refusal::RateLimited);
    }
    if !facts.has_been_ready {
        return Decision::Refuse(Refusal::Starting);
    }
    Decision::Open
}

impl Denial {
    /// The answer.
    pub(super) fn problem(self) -> Problem {
        match self {
            Self::Credentials(CredentialError::Missing) => Problem::unauthorized(None),
            Self::Credentials(CredentialError::Contradiction) => Problem::of(
                Kind::TwoTokens,
                "send one token: in Authorization or in the query, or the same one in both",
            ),
            Self::Credentials(CredentialError::ForeignOrigin) => Problem::of(
                Kind::ForeignOrigin,
                "a cookie counts only from the page's own origin or one of --cors-origins; \
                 behind a proxy that needs X-Forwarded-Host and --trusted-proxies",
            ),
            Self::Token(error) => Problem::unauthorized(Some(error.to_string())),
            Self::Query => Problem::of(
                Kind::BadQuery,
                "the query is not valid percent-encoded UTF-8; encode its values, for example \
                 with encodeURIComponent",
            ),
        }
    }
}

/// The answer to a client that reads a status.
pub(super) fn refusal_problem(refusal: Refusal, retry: std::time::Duration) -> Problem {
    let (kind, detail) = match refusal {
        Refusal::TooManyStreams => (
            Kind::TooManyStreams,
            "this user has as many streams open as --max-streams-per-user allows",
        ),
        Refusal::RateLimited => {
            (Kind::RateLimited, "this address or this user connects too often; wait")
        }
        Refusal::Full => (Kind::Full, "the gateway has as many streams open as it may; wait"),
        Refusal::Starting => (Kind::Starting, "the gateway has not reached its database yet; wait"),
        Refusal::NoKeys => {
            (Kind::NoKeys, "the gateway has not fetched the keys that verify tokens yet; wait")
        }
        Refusal::Shutdown => {
            (Kind::Stopping, "this process is stopping; another one takes the stream")
        }
    };
    Problem::later(kind, detail, retry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            is_enabled: true,
            is_query_valid: true,
            token: Ok(()),
            revoked: None,
            is_flooded: false,
            has_been_ready: true,
        }
    }

    fn credentials(error: CredentialError) -> Result<(), Denial> {
        Err(Denial::Credentials(error))
    }

    #[test]
    fn each_reason_counts_before_all_that_stand_below_it() {
        let expired = || Denial::Token(TokenError::Expired);
        // Every row is also everything that stands below it.
        type Wrong = fn(&mut Facts);
        let mut rows: Vec<(&str, Wrong, Decision)> = vec![
            ("off", |f| f.is_enabled = false, Decision::Off),
            (
                "a bad token",
                |f| f.token = Err(Denial::Token(TokenError::Expired)),
                Decision::Deny(expired()),
            ),
            (
                "a revoked token",
                |f| f.revoked = Some(TokenError::Revoked),
                Decision::Deny(Denial::Token(TokenError::Revoked)),
            ),
            ("a bad query", |f| f.is_query_valid = false, Decision::Deny(Denial::Query)),
            ("a flood", |f| f.is_flooded = true, Decision::Refuse(Refusal::RateLimited)),
            ("starting", |f| f.has_been_ready = false, Decision::Refuse(Refusal::Starting)),
            ("nothing", |_| {}, Decision::Open),
        ];
        while !rows.is_empty() {
            let mut facts = good();
            rows.iter().for_each(|(_, wrong, _)| wrong(&mut facts));
            let (name, _, decision) = rows.remove(0);
            assert_eq!(decide(facts), decision, "{name}");
        }
    }

    #[test]
    fn a_token_that_no_key_can_verify_yet_comes_again_later() {
        let facts = Facts { token: Err(Denial::Token(TokenError::NoKeys)), ..good() };
        assert_eq!(decide(facts), Decision::Refuse(Refusal::NoKeys));
    }

    #[test]
    fn what_is_wrong_with_the_credentials_counts_like_a_bad_token() {
        use CredentialError::{Contradiction, ForeignOrigin, Missing};
        for error in [Missing, Contradiction, ForeignOrigin] {
            let facts = Facts { token: credentials(error), is_flooded: true, ..good() };
            assert_eq!(decide(facts), Decision::Deny(Denial::Credentials(error)));
        }
    }

    #[test]
    fn a_token_may_be_in_a_query_that_cannot_be_read() {
        let missing = credentials(CredentialError::Missing);
        let facts = Facts { is_query_valid: false, token: missing, ..good() };
        assert_eq!(decide(facts), Decision::Deny(Denial::Query));
        let facts = Facts {
            is_query_valid: false,
            token: Err(Denial::Token(TokenError::Signature)),
            ..good()
        };
        assert_eq!(decide(facts), Decision::Deny(Denial::Token(TokenError::Signature)));
    }
}
