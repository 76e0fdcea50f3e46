//! What a source tells, as bytes.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::{
    cursor::{RowKey, Snapshot},
    feed::Row,
    horizon::{Epoch, Epochs},
    notification::{Change, UserId},
};

/// How a batch begins, before its version.
const MARK: &[u8] = b"ngw";

/// Gateways of another version wait for a source of theirs.
const VERSION: u8 = 1;

/// A batch's place in all that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Whose it is: each time that a gateway becomes the source it takes another number.
    pub lead: u64,
    /// Which of its batches this is.
    pub number: u64,
}

/// What a source has told since the batch before, in this order: an epoch begins, all is lost,
/// rows, the watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its place.
    pub link: Link,
    /// The batch before. `None`: what was told before is not known.
    pub after: Option<Link>,
    /// Whose transaction numbers these are.
    pub epoch: u32,
    /// The epochs of the database, when another has begun.
    pub begins: Option<Epochs>,
    /// Whether there are rows in the log that are not told.
    pub is_lost: bool,
    /// Rows, in the order in which they are to go out.
    pub told: Vec<Told>,
    /// How far everything has been told, with this batch.
    pub watermark: Snapshot,
}

/// What is told of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A row.
    Row(UserId, Row),
    /// There are rows in the log that are not told.
    Lost(UserId),
}

/// Bytes that are no batch.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Another version of notify-gateway wrote them.
    #[error(
        "the source speaks version {0}, this gateway {VERSION}: run the same release everywhere"
    )]
    Version(u8),
    /// Nothing that a source writes.
    #[error("the relay has a message that no source of notify-gateway wrote")]
    Malformed,
}

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    link: Link,
    after: Option<Link>,
    epoch: u32,
    begins: Option<Vec<WireEpoch>>,
    is_lost: bool,
    #[serde(borrow)]
    told: Vec<WireTold<'a>>,
    /// As Postgres writes a `pg_snapshot`.
    watermark: String,
}

#[derive(Serialize, Deserialize)]
struct WireEpoch {
    number: u32,
    first: Option<u64>,
    is_restart: bool,
}

#[derive(Serialize, Deserialize)]
enum WireTold<'a> {
    Row {
        #[serde(borrow)]
        user: WireUser<'a>,
        xact: u64,
        seq: i64,
        change: WireChange,
        #[serde(borrow, serialize_with = "bytes")]
        event: &'a [u8],
        /// Microseconds since 1970.
        made_at: Option<u64>,
    },
    Lost {
        #[serde(borrow)]
        user: WireUser<'a>,
    },
}

#[derive(Serialize, Deserialize)]
enum WireUser<'a> {
    Uuid([u8; 16]),
    Text(&'a str),
}

#[derive(Serialize, Deserialize)]
enum WireChange {
    New,
    Updated,
    Deleted,
}

/// At once, and not byte by byte.
fn bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

impl Batch {
    /// As it is sent.
    ///
    /// # Errors
    ///
    /// None that is known: all of it has a form.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let wire = Wire {
            link: self.link,
            after: self.after,
            epoch: self.epoch,
            begins: self.begins.as_ref().map(|epochs| epochs.iter().map(WireEpoch::of).collect()),
            is_lost: self.is_lost,
            told: self.told.iter().map(WireTold::of).collect(),
            watermark: self.watermark.to_string(),
        };
        postcard::to_extend(&wire, [MARK, &[VERSION]].concat())
    }

    /// Reads what [`Batch::encode`] wrote.
    ///
    /// # Errors
    ///
    /// Something else wrote it: see [`BatchError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let marked = bytes.strip_prefix(MARK).ok_or(BatchError::Malformed)?;
        let (version, wire) = marked.split_first().ok_or(BatchError::Malformed)?;
        if *version != VERSION {
            return Err(BatchError::Version(*version));
        }
        let wire: Wire<'_> = postcard::from_bytes(wire).map_err(|_| BatchError::Malformed)?;
        Ok(Self {
            link: wire.link,
            after: wire.after,
            epoch: wire.epoch,
            begins: wire
                .begins
                .map(|epochs| Epochs::new(epochs.iter().map(WireEpoch::epoch).collect())),
            is_lost: wire.is_lost,
            told: wire.told.into_iter().map(WireTold::told).collect::<Result<_, _>>()?,
            watermark: wire.watermark.parse().map_err(|_| BatchError::Malformed)?,
        })
    }
}

impl WireEpoch {
    fn of(epoch: &Epoch) -> Self {
        let Epoch { number, first, is_restart } = *epoch;
        Self { number, first, is_restart }
    }

    fn epoch(&self) -> Epoch {
        let Self { number, first, is_restart } = *self;
        Epoch { number, first, is_restart }
    }
}

impl<'a> WireTold<'a> {
    fn of(told: &'a Told) -> Self {
        match told {
            Told::Lost(user) => Self::Lost { user: WireUser::of(user) },
            Told::Row(user, row) => Self::Row {
                user: WireUser::of(user),
                xact: row.key.xact,
                seq: row.key.seq,
                change: match row.change {
                    Change::New => WireChange::New,
                    Change::Updated => WireChange::Updated,
                    Change::Deleted => WireChange::Deleted,
                },
                event: &row.event,
                made_at: row.made_at.and_then(|at| {
                    let since_1970 = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
                    u64::try_from(since_1970.as_micros()).ok()
                }),
            },
        }
    }

    fn told(self) -> Result<Told, BatchError> {
        Ok(match self {
            Self::Lost { user } => Told::Lost(user.user()?),
            Self::Row { user, xact, seq, change, event, made_at } => {
                let change = match change {
                    WireChange::New => Change::New,
                    WireChange::Updated => Change::Updated,
                    WireChange::Deleted => Change::Deleted,
                };
                let made_at = made_at.and_then(|micros| {
                    SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros))
                });
                let key = RowKey { xact, seq };
                Told::Row(user.user()?, Row { key, change, event: event.to_vec(), made_at })
            }
        })
    }
}

impl<'a> WireUser<'a> {
    fn of(user: &'a UserId) -> Self {
        let uuid = user.as_uuid().map(|uuid| Self::Uuid(uuid.into_bytes()));
        uuid.unwrap_or_else(|| Self::Text(user.as_text().unwrap_or_default()))
    }

    fn user(self) -> Result<UserId, BatchError> {
        match self {
            Self::Uuid(bytes) => Ok(UserId::uuid(Uuid::from_bytes(bytes))),
            Self::Text(text) => text.parse().map_err(|_| BatchError::Malformed),
        }
    }
}

impl Told {
    /// How many bytes it takes in a batch, at the most.
    pub(super) fn size(&self) -> usize {
        const ENVELOPE: usize = 64;
        let of_user = |user: &UserId| user.as_text().map_or(0, str::len);
        match self {
            Self::Row(user, row) => ENVELOPE + of_user(user) + row.event.len(),
            Self::Lost(user) => ENVELOPE + of_user(user),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::notification::EventName;

    fn a_user() -> impl Strategy<Value = UserId> {
        let text = "[a-z\n🔔]{1,20}".prop_map(|text| text.parse().unwrap());
        prop_oneof![any::<u128>().prop_map(|id| UserId::uuid(Uuid::from_u128(id))), text]
    }

    fn told() -> impl Strategy<Value = Told> {
        let names = ["notification", "updated", "deleted"];
        let row = (
            a_user(),
            any::<u64>(),
            any::<i64>(),
            0..3_usize,
            ".{0,40}",
            option::of(0..1_u64 << 50),
        );
        prop_oneof![
            a_user().prop_map(Told::Lost),
            row.prop_map(move |(user, xact, seq, name, data, at)| {
                let name = EventName::new(names[name]).unwrap();
                let made_at = at.map(|at| SystemTime::UNIX_EPOCH + Duration::from_micros(at));
                let row = Row { made_at, ..Row::new(RowKey { xact, seq }, name, &data) };
                Told::Row(user, row)
            }),
        ]
    }

    fn link() -> impl Strategy<Value = Link> {
        any::<(u64, u64)>().prop_map(|(lead, number)| Link { lead, number })
    }

    prop_compose! {
        fn batch()(
            link in link(), after in option::of(link()), epoch in any::<u32>(), is_lost in any::<bool>(),
            begins in option::of(vec(any::<(u32, Option<u64>, bool)>(), 0..4)), told in vec(told(), 0..8),
        ) -> Batch {
            let epoch_of = |(number, first, is_restart)| Epoch { number, first, is_restart };
            let begins = begins.map(|it| Epochs::new(it.into_iter().map(epoch_of).collect()));
            let watermark = "5:9:6,8".parse().unwrap();
            Batch { link, after, epoch, begins, is_lost, told, watermark }
        }
    }

    proptest! {
        #[test]
        fn what_was_told_is_what_is_heard(batch in batch()) {
            prop_assert_eq!(Batch::decode(&batch.encode().unwrap()).unwrap(), batch);
        }

        #[test]
        fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..300), cut in any::<u16>(), batch in batch()) {
            let _outcome = Batch::decode(&bytes);
            let mut whole = batch.encode().unwrap();
            whole.truncate(usize::from(cut) % whole.len());
            prop_assert!(Batch::decode(&whole).is_err());
        }
    }

    #[test]
    fn another_version_is_said_to_be_one() {
        let error = Batch::decode(&[MARK, &[VERSION + 1, 0]].concat()).unwrap_err();
        assert!(matches!(error, BatchError::Version(version) if version == VERSION + 1));
    }
}
