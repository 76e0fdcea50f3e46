//! Whose notification it is: the row's user, the token's user claim.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};
use uuid::Uuid;

/// A user: a UUID, or any other short text.
///
/// Both sides, token and row, are read by [`UserId::from_str`], so that a UUID
/// is the same user in whatever case or notation each side writes it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Repr);

/// A UUID takes no allocation; most applications have UUIDs.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Uuid(Uuid),
    /// Never a text that is a UUID: two values of one user would not be equal.
    Text(Arc<str>),
}

impl UserId {
    /// The longest user, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 255;

    /// The user with this UUID.
    pub const fn uuid(uuid: Uuid) -> Self {
        Self(Repr::Uuid(uuid))
    }

    /// The UUID, if the user has one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match &self.0 {
            Repr::Uuid(uuid) => Some(*uuid),
            Repr::Text(_) => None,
        }
    }

    /// The text, if the user is no UUID.
    pub fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Repr::Uuid(_) => None,
            Repr::Text(text) => Some(text),
        }
    }
}

impl FromStr for UserId {
    type Err = UserIdError;

    fn from_str(text: &str) -> Result<Self, UserIdError> {
        if let Some(uuid) = parse_uuid(text) {
            return Ok(Self(Repr::Uuid(uuid)));
        }
        match text.len() {
            0 => Err(UserIdError::Empty),
            1..=Self::MAX_BYTES => Ok(Self(Repr::Text(text.into()))),
            _ => Err(UserIdError::TooLong),
        }
    }
}

/// The notations that Postgres reads (any case, in braces or not, a hyphen
/// after any four digits or none) and the URN of RFC 9562.
/// <https://www.postgresql.org/docs/current/datatype-uuid.html>
fn parse_uuid(text: &str) -> Option<Uuid> {
    const DIGITS: usize = 32;
    const HYPHENATED: usize = 36;
    // The shortest notation has 32 bytes, the longest, the URN, 45.
    if !(DIGITS..=45).contains(&text.len()) {
        return None;
    }
    // What Postgres writes, and so every row has.
    if let (HYPHENATED, Ok(uuid)) = (text.len(), Uuid::try_parse(text)) {
        return Some(uuid);
    }
    let bare = match text.get(..9) {
        Some(urn) if urn.eq_ignore_ascii_case("urn:uuid:") => &text[9..],
        _ => text.strip_prefix('{').map_or(Some(text), |rest| rest.strip_suffix('}'))?,
    };
    let (mut value, mut digits) = (0_u128, 0);
    let mut after_hyphen = true;
    for c in bare.chars() {
        if let Some(digit) = c.to_digit(16) {
            value = value.checked_mul(16)? | u128::from(digit);
            digits += 1;
            after_hyphen = false;
        } else if c == '-' && !after_hyphen && digits % 4 == 0 && digits < DIGITS {
            after_hyphen = true;
        } else {
            return None;
        }
    }
    (digits == DIGITS).then(|| Uuid::from_u128(value))
}

impl From<Uuid> for UserId {
    fn from(uuid: Uuid) -> Self {
        Self::uuid(uuid)
    }
}

/// The canonical text. It is for the log, where a control character could
/// forge a line: those are escaped.
impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Uuid(uuid) => uuid.fmt(f),
            Repr::Text(text) if text.contains(char::is_control) => text.escape_debug().fmt(f),
            Repr::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Repr::Uuid(uuid) => uuid.serialize(serializer),
            Repr::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Reads the text where it is: one user a notification, without a copy.
struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = UserId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a user's id as text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<UserId, E> {
        text.parse().map_err(E::custom)
    }
}

/// Why a text names no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserIdError {
    /// There is no text.
    #[error("the user is empty")]
    Empty,
    /// There is too much of it.
    #[error("the user is longer than {} bytes", UserId::MAX_BYTES)]
    TooLong,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CANONICAL: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

    fn user(text: &str) -> UserId {
        text.parse().unwrap()
    }

    #[test]
    fn every_notation_of_a_uuid_is_the_same_user() {
        for notation in [
            CANONICAL,
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
            "urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "URN:UUID:A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        ] {
            assert_eq!(user(notation), user(CANONICAL), "{notation}");
            assert_eq!(user(notation).to_string(), CANONICAL);
            assert!(user(notation).as_uuid().is_some());
        }
    }

    #[test]
    fn other_text_is_a_user_as_it_is_written() {
        for text in [
            "auth0|5f7c8ec7c33c6c004bbafe82",
            "user_2NNEqL2nrIRdJ194ndJqAHwEfxC",
            "42",
            "Ada",
            "🔔",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a1",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
            "-a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eeb-c999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1g",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11a0",
        ] {
            let user = user(text);
            assert_eq!(user.as_uuid(), None, "{text}");
            assert_eq!(serde_json::to_value(&user).unwrap(), text);
        }
        assert_ne!(user("Ada"), user("ada"));
    }

    #[test]
    fn an_empty_or_a_very_long_text_is_no_user() {
        assert_eq!("".parse::<UserId>(), Err(UserIdError::Empty));
        assert!("x".repeat(255).parse::<UserId>().is_ok());
        assert_eq!("x".repeat(256).parse::<UserId>(), Err(UserIdError::TooLong));
        // 128 letters, 256 bytes.
        assert_eq!("ä".repeat(128).parse::<UserId>(), Err(UserIdError::TooLong));
    }

    #[test]
    fn a_user_cannot_forge_a_line_of_the_log() {
        assert_eq!(user("a\nERROR b").to_string(), "a\\nERROR b");
    }

    proptest! {
        #[test]
        fn the_canonical_text_is_the_same_user(text in "\\PC{1,60}|[0-9a-fA-F{}-]{30,40}") {
            let user = user(&text);
            prop_assert_eq!(&self::user(&user.to_string()), &user);
            let json = serde_json::to_string(&user).unwrap();
            prop_assert_eq!(serde_json::from_str::<UserId>(&json).unwrap(), user);
        }
    }
}
