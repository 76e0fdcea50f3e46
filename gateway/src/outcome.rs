//! Why an open stream ends, and why a request opens none.

/// Why a stream is over: `closing`'s `reason` where the client can be told, the
/// label of `stream_ends_total`, and the reason under which the user's next
/// reconnect is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamEnd {
    /// The process is stopping; another takes over.
    Shutdown,
    /// The token that opened the stream has expired.
    TokenExpired,
    /// The user's tokens were revoked.
    Revoked,
    /// The stream is as old as the settings allow.
    MaxAge,
    /// The other side read nothing for too long. Its socket takes no event
    /// that could say so.
    SlowConsumer,
    /// The other side was gone.
    Disconnected,
}

impl StreamEnd {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Shutdown,
        Self::TokenExpired,
        Self::Revoked,
        Self::MaxAge,
        Self::SlowConsumer,
        Self::Disconnected,
    ];

    /// The reason as the client and the metrics see it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::TokenExpired => "token_expired",
            Self::Revoked => "revoked",
            Self::MaxAge => "max_age",
            Self::SlowConsumer => "slow_consumer",
            Self::Disconnected => "disconnected",
        }
    }
}

/// Why a request opens no stream now although nothing is known to be wrong with it. It may
/// come again later. Its reason is in `closing` for a browser, for which a status would be
/// the end for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The gateway has not been ready since it started.
    Starting,
    /// No key set has been fetched since the start, so no token can be verified yet.
    NoKeys,
    /// The process is stopping; another takes over.
    Shutdown,
    /// The gateway has as many streams as it may.
    Full,
    /// The user has as many streams as one may.
    TooManyStreams,
    /// Too many attempts, of this address or this user.
    RateLimited,
}

impl Refusal {
    /// One for each reason.
    pub const REASONS: [Self; 5] =
        [Self::Starting, Self::Shutdown, Self::Full, Self::TooManyStreams, Self::RateLimited];

    /// The reason as the client and the metrics see it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Starting | Self::NoKeys => "starting",
            Self::Shutdown => "shutdown",
            Self::Full => "full",
            Self::TooManyStreams => "too_many_streams",
            Self::RateLimited => "rate_limited",
        }
    }
}
