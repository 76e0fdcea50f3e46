//! The event: whose it is, its place in Postgres' history, its name and its JSON.
//!
//! [`Payload::decode`] reads what the trigger sends, and only its envelope: the data
//! is checked to be JSON, never taken apart, so that what Postgres wrote is byte
//! for byte what the browser gets.

mod user;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use serde_json::value::RawValue;

pub use user::{UserId, UserIdError};

use crate::cursor::RowKey;

/// One committed event of the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Notification<'a> {
    /// Who sees it. Nobody else ever does.
    pub user: UserId,
    /// Its place in history.
    pub key: RowKey,
    /// The event's name in the stream.
    pub event: EventName<'a>,
    /// The JSON object the client gets, as Postgres wrote it.
    pub data: &'a str,
    /// When the trigger sent it, by the database's clock; before the commit.
    pub made_at: Option<SystemTime>,
}

/// The text of a notification belongs to its user: it is in no log, so it is
/// not in `Debug` either.
impl fmt::Debug for Notification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification")
            .field("user", &self.user)
            .field("key", &self.key)
            .field("event", &self.event)
            .field("data_bytes", &self.data.len())
            .finish()
    }
}

/// The name of an event: `notification`, or what `watch()` was told; `updated`,
/// `deleted`. It stands in a line of its own in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventName<'a>(&'a str);

impl<'a> EventName<'a> {
    /// Of a table that says nothing else.
    pub const NOTIFICATION: EventName<'static> = EventName("notification");

    pub(crate) const DELETED: &'static str = "deleted";

    /// At most 64 letters, digits and `_ . : -`; nothing else is a name.
    pub fn new(name: &'a str) -> Option<Self> {
        const MAX_BYTES: usize = 64;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        let is_name = (1..=MAX_BYTES).contains(&name.len()) && name.bytes().all(is_allowed);
        is_name.then_some(Self(name))
    }

    /// The name that the log has. Where that is not a name, it is `notification`.
    pub fn stored(name: &'a str) -> Self {
        Self::new(name).unwrap_or(EventName::NOTIFICATION)
    }

    /// As it is written.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// What it says of the row.
    pub fn change(self) -> Change {
        match self.0 {
            "updated" => Change::Updated,
            Self::DELETED => Change::Deleted,
            _ => Change::New,
        }
    }
}

/// What has become of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new to its user, whatever the event is called.
    New,
    /// It is another now.
    Updated,
    /// It is gone, or no longer its user's.
    Deleted,
}

/// What a trigger has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// The event itself.
    Event(Notification<'a>),
    /// This transaction has more in the log: what NOTIFY could not carry, or what is
    /// not the first of it.
    Ring {
        /// The transaction's `xid8`.
        xact: u64,
    },
}

impl<'a> Payload<'a> {
    /// Reads what the triggers of `schema.sql` send,
    /// `{"xact_id":"745","seq":12,"user_id":"…","event":"notification","data":{…}}`,
    /// perhaps with the time of its making, `"at":1764300000.5`; or the transaction
    /// alone, `{"xact_id":"745"}`.
    ///
    /// # Errors
    ///
    /// Anyone who may connect to the database may type anything into the
    /// channel, so every kind of text has an answer here; see [`PayloadError`].
    pub fn decode(payload: &'a str) -> Result<Self, PayloadError> {
        let envelope: Envelope<'a> = serde_json::from_str(payload)
            .map_err(|e| if e.is_data() { PayloadError::Envelope } else { PayloadError::Json })?;
        let xact = envelope.xact_id.parse().map_err(|_| PayloadError::Envelope)?;
        let (seq, user, event, data) =
            match (envelope.seq, envelope.user_id, envelope.event, envelope.data) {
                (None, None, None, None) => return Ok(Self::Ring { xact }),
                (Some(seq), Some(user), Some(event), Some(data)) => (seq, user, event, data),
                _ => return Err(PayloadError::Envelope),
            };
        let event = EventName::new(event).ok_or(PayloadError::Envelope)?;
        let data = data.get();
        if !data.starts_with('{') {
            return Err(PayloadError::Envelope);
        }
        let since_1970 = envelope.at.map(Duration::try_from_secs_f64);
        let made_at = since_1970.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(at.ok()?));
        let key = RowKey { xact, seq };
        Ok(Self::Event(Notification { user, key, event, data, made_at }))
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    /// A string, because an `xid8` outgrows the integers JSON readers agree on.
    #[serde(borrow)]
    xact_id: &'a str,
    seq: Option<i64>,
    user_id: Option<UserId>,
    #[serde(borrow)]
    event: Option<&'a str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    /// Seconds since 1970.
    at: Option<f64>,
}

/// Why a payload is no row of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The text is not one JSON value.
    #[error("the payload is not JSON")]
    Json,
    /// JSON, but not the envelope that the triggers write.
    #[error("the payload is JSON, but not an event that a trigger of notify_gateway wrote")]
    Envelope,
}

impl PayloadError {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Json, Self::Envelope];

    /// The value of the metric label `reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Json => "not_json",
            Self::Envelope => "not_a_row",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USER: &str = "11111111-2222-3333-4444-555555555555";

    fn payload(data: &str) -> String {
        format!(
            r#"{{"xact_id":"745","seq":12,"user_id":"{USER}","event":"notification","data":{data}}}"#
        )
    }

    fn row(text: &str) -> Notification<'_> {
        match Payload::decode(text).unwrap() {
            Payload::Event(row) => row,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_transaction_alone_is_a_ring() {
        assert_eq!(Payload::decode(r#"{"xact_id":"745"}"#), Ok(Payload::Ring { xact: 745 }));
        let half = format!(r#"{{"xact_id":"745","user_id":"{USER}"}}"#);
        assert_eq!(Payload::decode(&half), Err(PayloadError::Envelope));
        assert_eq!(Payload::decode(""), Err(PayloadError::Json));
    }

    #[test]
    fn an_events_name_says_what_has_become_of_the_row_and_breaks_out_of_no_line() {
        let changes = ["notification", "app.Alert:new-1", "updated", "deleted"]
            .map(|name| EventName::new(name).map(EventName::change));
        assert_eq!(changes, [Change::New, Change::New, Change::Updated, Change::Deleted].map(Some));
        for bad in ["", "a b", "a\nid: 1", "é", &"x".repeat(65)] {
            assert_eq!(EventName::new(bad), None, "{bad}");
            let text =
                payload("{}").replace(r#""notification""#, &serde_json::json!(bad).to_string());
            assert_eq!(Payload::decode(&text), Err(PayloadError::Envelope), "{bad}");
        }
    }

    #[test]
    fn the_row_is_carried_byte_for_byte() {
        let data = r#"{"id":"x","title":"a\nb \"c\" 🔔","metadata":{"b": [1, {"a": null}]}}"#;
        let text = payload(data);
        let row = row(&text);
        assert_eq!(row.data, data);
        assert_eq!(row.user, USER.parse().unwrap());
        assert_eq!(row.key, RowKey { xact: 745, seq: 12 });
    }

    #[test]
    fn the_time_of_its_making_is_known_where_the_trigger_says_it_and_it_makes_sense() {
        let at = |text: &str| row(&payload("{}").replace(r#""seq""#, text)).made_at;
        assert_eq!(at(r#""seq""#), None);
        let made_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_300_000_500);
        assert_eq!(at(r#""at":1764300000.5,"seq""#), Some(made_at));
        for nonsense in ["-1", "1e300", "null"] {
            assert_eq!(at(&format!(r#""at":{nonsense},"seq""#)), None, "{nonsense}");
        }
    }

    #[test]
    fn what_a_person_types_into_the_channel_is_refused_with_its_reason() {
        for (typed, error) in [
            ("hello", PayloadError::Json),
            ("{", PayloadError::Json),
            ("{}", PayloadError::Envelope),
            ("null", PayloadError::Envelope),
            (&payload("[]"), PayloadError::Envelope),
            (payload("{").as_str(), PayloadError::Json),
            (&payload("{}").replace("745", "-1"), PayloadError::Envelope),
            (&payload("{}").replace("745", "99999999999999999999"), PayloadError::Envelope),
            (&payload("{}").replace(USER, ""), PayloadError::Envelope),
            (&payload("{}").replace(USER, &"x".repeat(256)), PayloadError::Envelope),
            (&payload("{}").replace(&format!("\"{USER}\""), "7"), PayloadError::Envelope),
            (&payload("{}").replace(":12,", ":\"12\","), PayloadError::Envelope),
            (&format!("{} {{}}", payload("{}")), PayloadError::Json),
        ] {
            assert_eq!(Payload::decode(typed), Err(error), "{typed}");
        }
    }

    #[test]
    fn deep_nesting_does_not_exhaust_the_stack() {
        let deep = format!("{{\"metadata\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        // Accepted or refused, but never a crash.
        let _outcome = Payload::decode(&payload(&deep));
    }

    #[test]
    fn debug_output_never_shows_the_text() {
        let text = payload(r#"{"title":"private"}"#);
        let row = row(&text);
        assert!(!format!("{row:?}").contains("private"));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,200}") {
            let _outcome = Payload::decode(&text);
        }
    }
}
