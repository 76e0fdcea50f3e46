//! The resume cursor: which of a user's rows a client has, in a few dozen characters.
//!
//! A cursor is a set of rows, and every operation here is exact set algebra on it (the tests at
//! the foot hold each one against a brute-force set):
//!
//! | call | the set afterwards |
//! |---|---|
//! | [`Cursor::record`] | before ∪ {row} |
//! | [`Cursor::replay`] | before ∪ {rows `read` sees of older transactions} ∪ {rows of this one up to here} |
//! | [`Cursor::rebase`] | before ∪ {rows the watermark sees}, or before |
//! | [`Cursor::clamp`] | before ∖ {rows of `first` and later transactions} |
//!
//! Claiming too little shows a row twice; claiming too much loses one. So wherever something has
//! to give (a list too long, another history), the set shrinks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

/// The longest encoded cursor, in characters. It comes back in a request head, and proxies
/// commonly stop at 4 to 8 KiB for the whole of it.
pub const MAX_LEN: usize = 2048;

/// What `MAX_LEN` characters of base64 hold: 2,048 × 6 / 8 bytes.
const MAX_BYTES: usize = MAX_LEN / 4 * 3;

/// What an encoded snapshot's holes may take of `MAX_BYTES`; the rest is for rows. At one byte a
/// hole (the next one less than 129 transactions away) that is 1,024 writers at once.
const MAX_HOLE_BYTES: usize = 1024;

/// Longest varint of a `u64`: ⌈64 / 7⌉ bytes.
const MAX_NUMBER_BYTES: usize = 10;

const VERSION: u8 = 1;

/// Where a row stands: the transaction that wrote it, and its place in that transaction.
///
/// Ordered as a replay reads: `ORDER BY xact_id, seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The writing transaction's `xid8`.
    pub xact: u64,
    /// Its place in that transaction; grows in insertion order.
    pub seq: i64,
}

/// The rows of one user that one client has.
///
/// Cheap to keep and to clone for an idle stream: the snapshot is shared, and the lists of one
/// that is up to date are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    epoch: u32,
    snapshot: Arc<Snapshot>,
    /// Each stands for all rows of its transaction up to itself. Ascending, at most one for a
    /// transaction, none the snapshot sees.
    parts: Vec<RowKey>,
    /// Rows had singly. Ascending, none that the snapshot or a part covers.
    recents: Vec<RowKey>,
}

impl Cursor {
    /// Everything `snapshot` sees: a first connection, or the end of a replay.
    ///
    /// At the end of a replay this replaces the cursor rather than adding to it, on purpose: what
    /// a cursor of another history claims beyond `snapshot` is not committed here yet, and must
    /// be sent when it is.
    pub fn new(epoch: u32, snapshot: Arc<Snapshot>) -> Self {
        Self { epoch, snapshot, parts: Vec::new(), recents: Vec::new() }
    }

    /// Reads what a client sent back: any bytes at all.
    ///
    /// Time and memory are bounded by `MAX_LEN`, whatever the numbers inside say. A text this
    /// accepts is the only one for its cursor: [`encode`](Self::encode) gives it back.
    ///
    /// # Errors
    ///
    /// When the text isn't one that [`encode`](Self::encode) writes, with the reason. The client
    /// then needs a `resync`.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, CursorError> {
        let text = text.as_ref();
        if text.len() > MAX_LEN {
            return Err(CursorError::TooLong);
        }
        // This engine refuses padding and stray bits in the last character.
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::NotBase64Url)?;
        let version = *bytes.first().ok_or(CursorError::CutShort)?;
        if version != VERSION {
            return Err(CursorError::UnknownVersion(version));
        }
        let (body, sum) = bytes.split_last_chunk().ok_or(CursorError::CutShort)?;
        if *sum != checksum(body) {
            return Err(CursorError::Damaged);
        }
        let mut reader = Reader(body.get(1..).ok_or(CursorError::CutShort)?);
        let cursor = reader.cursor()?;
        if !reader.0.is_empty() {
            return Err(CursorError::NotCanonical);
        }
        Ok(cursor)
    }

    /// Appends the cursor to `out` and says so; or leaves `out` alone and says `false` when the
    /// rows beyond the snapshot are too many for `MAX_LEN` characters.
    ///
    /// The event then goes out without an id, and a sweep should follow: its
    /// [`rebase`](Self::rebase) forgets the rows. A cursor without parts and recents always fits:
    /// of a snapshot with more holes than `MAX_HOLE_BYTES` hold, the oldest part is written, so
    /// that even beside thousands of writers a client has something to come back with.
    ///
    /// The characters are those of base64url: safe in an SSE `id`, a header and a query.
    #[must_use = "without an id the event must go out differently"]
    pub fn encode(&self, out: &mut Vec<u8>) -> bool {
        // Nearly all are short, and each event has one.
        let numbers = self.snapshot.xip.len() + self.parts.len() + self.recents.len();
        if numbers <= FEW_NUMBERS {
            Writer::<FEW_BYTES>::default().encode(self, out)
        } else {
            Writer::<MAX_BYTES>::default().encode(self, out)
        }
    }

    /// Whether the client has `row`. Exactly the rows it has not are to be sent.
    pub fn covers(&self, row: RowKey) -> bool {
        self.snapshot.sees(row.xact)
            || self.part_covers(row)
            || self.recents.binary_search(&row).is_ok()
    }

    /// Adds one row and says whether it is new, that is, to be sent.
    ///
    /// For rows in whatever order notifications bring them. They add up until the next
    /// [`rebase`](Self::rebase): the caller bounds them by sweeping.
    #[must_use = "a row that is not new must not be sent"]
    pub fn record(&mut self, row: RowKey) -> bool {
        if self.snapshot.sees(row.xact) || self.part_covers(row) {
            return false;
        }
        // Nearly always the newest, so look at the end first.
        if self.recents.last().is_none_or(|last| *last < row) {
            self.recents.push(row);
            return true;
        }
        match self.recents.binary_search(&row) {
            Ok(_) => false,
            Err(place) => {
                self.recents.insert(place, row);
                true
            }
        }
    }

    /// Passes one row of a statement that returns this user's rows `ORDER BY xact_id, seq`, and
    /// says whether it is new, that is, to be sent.
    ///
    /// `read` is the statement's own snapshot, or an older one: for a sweep, the durable one
    /// taken before it. All that `read` sees of older transactions must have come before `row`
    /// or be covered already. The cursor then stays short however many rows there are, and holds
    /// when the replay is cut after any of them.
    ///
    /// `read` need not contain the cursor's snapshot (another replica's, another history's): the
    /// result is the union of the two, so it never claims a row that neither was had before nor
    /// came out of this read.
    #[must_use = "a row that is not new must not be sent"]
    pub fn replay(&mut self, read: &Snapshot, row: RowKey) -> bool {
        let new = !self.covers(row);
        let RowKey { xact, seq } = row;
        let snapshot = self.snapshot.advance(read, xact);
        if snapshot != *self.snapshot {
            self.snapshot = Arc::new(snapshot);
            self.forget_seen();
        }
        if !self.snapshot.sees(xact) {
            match self.parts.binary_search_by_key(&xact, |part| part.xact) {
                Ok(place) => self.parts[place].seq = self.parts[place].seq.max(seq),
                Err(place) => self.parts.insert(place, row),
            }
            self.recents.retain(|recent| recent.xact != xact || recent.seq > seq);
        }
        new
    }

    /// Moves to a watermark, after everything it sees has been sent, and says whether it did.
    ///
    /// A cursor that is already ahead of the watermark (a replay has just ended) stays where it
    /// is.
    pub fn rebase(&mut self, watermark: &Arc<Snapshot>) -> bool {
        // The same as with the last event, nearly always.
        if Arc::ptr_eq(watermark, &self.snapshot) {
            return true;
        }
        if !watermark.contains(&self.snapshot) {
            return false;
        }
        self.snapshot = Arc::clone(watermark);
        self.forget_seen();
        true
    }

    /// Takes the cursor over into a later epoch, in which transaction numbers from `first` on
    /// have been given out anew: it no longer claims any of them.
    pub fn clamp(&mut self, epoch: u32, first: u64) {
        self.epoch = epoch;
        self.snapshot = Arc::new(self.snapshot.clamp(first));
        self.parts.retain(|part| part.xact < first);
        self.recents.retain(|recent| recent.xact < first);
    }

    /// The rows that snapshot and parts leave, as ascending, disjoint ranges of the index on
    /// `(xact_id, seq)`.
    ///
    /// A page of a replay must leave out what the parts cover in SQL. Filtered afterwards, a page
    /// that lies within one half-sent transaction has nothing new in it, moves the cursor
    /// nowhere, and is read again for ever. (The recents may be filtered afterwards:
    /// [`replay`](Self::replay) moves past them.)
    pub fn unread(&self) -> Vec<Unread> {
        let Snapshot { xmax, xip } = &*self.snapshot;
        let holes = xip.iter().map(|&hole| (hole, hole + 1));
        let mut ranges: Vec<Unread> = Vec::new();
        let mut push = |after: RowKey, before: u64| {
            let starts_whole = after.seq == i64::MAX;
            if starts_whole && after.xact + 1 >= before {
                return;
            }
            match ranges.last_mut() {
                Some(last) if starts_whole && last.before == after.xact + 1 => last.before = before,
                _ => ranges.push(Unread { after, before }),
            }
        };
        for (from, before) in holes.chain([(*xmax, u64::MAX)]) {
            let mut after = RowKey { xact: from - 1, seq: i64::MAX };
            let inside = |part: &&RowKey| from <= part.xact && part.xact < before;
            for part in self.parts.iter().filter(inside) {
                push(after, part.xact);
                after = *part;
            }
            push(after, before);
        }
        ranges
    }

    /// The epoch whose transaction numbers it speaks of.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What it covers but for parts and recents.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Ascending; each stands for the rows of its transaction up to and including itself.
    pub fn parts(&self) -> &[RowKey] {
        &self.parts
    }

    /// Ascending.
    pub fn recents(&self) -> &[RowKey] {
        &self.recents
    }

    fn part_covers(&self, row: RowKey) -> bool {
        self.parts
            .binary_search_by_key(&row.xact, |part| part.xact)
            .is_ok_and(|place| row.seq <= self.parts[place].seq)
    }

    fn forget_seen(&mut self) {
        for rows in [&mut self.parts, &mut self.recents] {
            rows.retain(|row| !self.snapshot.sees(row.xact));
            // Most streams are idle most of the time; one that was busy gives its memory back.
            if rows.is_empty() {
                *rows = Vec::new();
            }
        }
    }
}

/// A range of rows to read: `(xact_id, seq) > (after.xact, after.seq) AND xact_id < before`.
///
/// A whole transaction starts after the last possible row of the number before it, so that the
/// comparison holds for rows without a `seq` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The range begins after this row.
    pub after: RowKey,
    /// It ends before this transaction.
    pub before: u64,
}

/// Which transactions had committed or aborted at one moment: all below `xmax` except `xip`.
///
/// One set has one representation, so that `==` compares sets: `xmax` follows a transaction that
/// is seen. The transaction number 0, which Postgres never gives out, counts as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    xmax: u64,
    /// The holes: ascending, none of them 0 or `xmax - 1`, all below `xmax`.
    xip: Box<[u64]>,
}

impl Snapshot {
    /// The one that sees nothing.
    pub fn empty() -> Self {
        Self { xmax: 1, xip: Box::default() }
    }

    /// Whether `xact` had ended, one way or the other.
    pub fn sees(&self, xact: u64) -> bool {
        xact < self.xmax && self.xip.binary_search(&xact).is_err()
    }

    /// Whether this sees everything that `other` sees.
    pub fn contains(&self, other: &Self) -> bool {
        // `other` sees `other.xmax - 1`, always.
        other.xmax <= self.xmax
            && self
                .xip
                .iter()
                .take_while(|hole| **hole < other.xmax)
                .all(|hole| other.xip.binary_search(hole).is_ok())
    }

    /// The union of this with what `later` sees of the transactions before `end`.
    ///
    /// Its holes are some of this one's, or some of `later`'s: it is never longer than both.
    #[must_use]
    pub fn advance(&self, later: &Self, end: u64) -> Self {
        let end = end.min(later.xmax);
        let ours = self.xip.iter().filter(|hole| **hole >= end || !later.sees(**hole));
        let theirs = later.xip.iter().filter(|hole| (self.xmax..end).contains(hole));
        Self::new(self.xmax.max(end), ours.chain(theirs).copied().collect())
    }

    /// What of this holds where transactions from `first` on are others.
    #[must_use]
    pub fn clamp(&self, first: u64) -> Self {
        let xmax = self.xmax.min(first.max(1));
        let xip = self.xip.iter().copied().filter(|hole| *hole < xmax);
        Self::new(xmax, xip.collect())
    }

    /// From here on nothing is seen: the replay reads `xact_id >= xmax`.
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Below `xmax`, what is not seen, ascending: the replay reads these too.
    pub fn xip(&self) -> &[u64] {
        &self.xip
    }

    /// Brings `xip` (ascending, each at least 1 and below `xmax`) into the one representation.
    fn new(mut xmax: u64, mut xip: Vec<u64>) -> Self {
        while xip.last().is_some_and(|hole| hole + 1 == xmax) {
            xip.pop();
            xmax -= 1;
        }
        Self { xmax, xip: xip.into_boxed_slice() }
    }

    /// `xmax` and holes of the largest older snapshot whose holes take no more than
    /// `MAX_HOLE_BYTES`. Nearly always this one.
    ///
    /// A later snapshot never gives a smaller one here, so a client's cursors only grow.
    fn fitting(&self) -> (u64, &[u64]) {
        if self.xip.len() <= MAX_HOLE_BYTES / MAX_NUMBER_BYTES {
            return (self.xmax, &self.xip);
        }
        let mut bytes = 0;
        let too_long = self.xip.windows(2).position(|pair| {
            bytes += number_bytes(pair[1] - pair[0] - 1);
            bytes > MAX_HOLE_BYTES
        });
        let Some(place) = too_long else {
            return (self.xmax, &self.xip);
        };
        let (mut xmax, mut xip) = (self.xip[place + 1], &self.xip[..=place]);
        while let [older @ .., hole] = xip
            && hole + 1 == xmax
        {
            (xmax, xip) = (*hole, older);
        }
        (xmax, xip)
    }
}

/// The text of a `pg_snapshot`, `xmin:xmax:xip,xip…`.
///
/// <https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT>
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let xmin = self.xip.first().unwrap_or(&self.xmax);
        write!(f, "{xmin}:{}:", self.xmax)?;
        for (place, hole) in self.xip.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{hole}")?;
        }
        Ok(())
    }
}

/// Accepts what Postgres's own `pg_snapshot` input accepts, without its leniency in numbers.
impl FromStr for Snapshot {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Self, SnapshotError> {
        let mut fields = text.split(':');
        let (Some(xmin), Some(xmax), Some(list), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(SnapshotError);
        };
        let (xmin, xmax) = (xact(xmin)?, xact(xmax)?);
        if xmin > xmax {
            return Err(SnapshotError);
        }
        let mut xip = Vec::new();
        // Splitting an empty text would give one empty number.
        for hole in list.split(',').take_while(|_| !list.is_empty()) {
            let hole = xact(hole)?;
            let ascending = xip.last().is_none_or(|last| *last <= hole);
            if hole < xmin || hole >= xmax || !ascending {
                return Err(SnapshotError);
            }
            xip.push(hole);
        }
        xip.dedup();
        Ok(Self::new(xmax, xip))
    }
}

/// A transaction number in decimal: digits only, not 0.
fn xact(digits: &str) -> Result<u64, SnapshotError> {
    // `u64::from_str` alone would let a plus sign pass.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SnapshotError);
    }
    match digits.parse() {
        Ok(0) | Err(_) => Err(SnapshotError),
        Ok(number) => Ok(number),
    }
}

/// Why a client's cursor can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CursorError {
    /// Longer than any that is written.
    #[error("cursor is longer than {MAX_LEN} characters")]
    TooLong,
    /// Not in the alphabet of base64url.
    #[error("cursor is not base64url")]
    NotBase64Url,
    /// Of another version of the encoding.
    #[error("cursor is of the unknown version {0}")]
    UnknownVersion(u8),
    /// Something is missing at its end.
    #[error("cursor is cut short")]
    CutShort,
    /// Its checksum is another.
    #[error("cursor does not match its checksum")]
    Damaged,
    /// Whole, but not as it would be written.
    #[error("cursor is not in the form the gateway writes")]
    NotCanonical,
}

/// A text that isn't a `pg_snapshot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a pg_snapshot")]
pub struct SnapshotError;

// The encoding, version 1:
//
//     version   1 byte
//     epoch     number
//     xmax      number
//     holes     how many, then newest first the distance down from the one before, less 1
//     parts     how many, then rows
//     recents   how many, then rows
//     checksum  3 bytes
//
// A number is a LEB128 varint in its shortest form. A row is the distance of its transaction from
// the row before it and the distance of its seq, less 1 where the transaction is the same (so
// that a list out of order can't be written). The first transaction of a list counts from xmax,
// the first seq of the parts from 0, that of the recents from the last part. A distance that can
// be negative wraps around and is zigzagged.
//
// Why a checksum: in a form this dense nearly every damaged text is some other cursor, and one
// that claims more than the client has loses events without a sign. With it, each of these is
// found for certain, not only with a probability:
//
// - a changed character, or several that lie within four neighbours (24 bits): a CRC of 24 bits
//   finds every burst up to its own length;
// - an end cut off: every list is preceded by its length, so no body is the beginning of another,
//   and a text cut short ends within its body, whatever its last three bytes are.
//
// Other damage passes with a probability of 2^-24 at most, and then must also be canonical.
// It is no authenticator. A cursor names no user: who forges one sees again or misses rows of its
// own stream, and has the gateway hold no more than `MAX_BYTES` numbers. How many rows a replay
// reads is not bounded here but by the replay limit.

/// A cursor's bytes as they are written. Its methods give `None` when there is no more room.
struct Writer<const ROOM: usize> {
    bytes: [u8; ROOM],
    len: usize,
}

/// A cursor of so few holes, parts and recents fits into so many bytes: two
/// numbers each, five more, version and checksum.
const FEW_NUMBERS: usize = 4;
const FEW_BYTES: usize = (2 * FEW_NUMBERS + 5) * MAX_NUMBER_BYTES + 4;

impl<const ROOM: usize> Default for Writer<ROOM> {
    fn default() -> Self {
        Self { bytes: [0; ROOM], len: 0 }
    }
}

impl<const ROOM: usize> Writer<ROOM> {
    fn encode(&mut self, cursor: &Cursor, out: &mut Vec<u8>) -> bool {
        if self.cursor(cursor).is_none() {
            return false;
        }
        let start = out.len();
        // Four characters for three bytes: room enough.
        out.resize(start + self.len.div_ceil(3) * 4, 0);
        let written = URL_SAFE_NO_PAD.encode_slice(&self.bytes[..self.len], &mut out[start..]);
        out.truncate(start + written.unwrap_or_default());
        true
    }

    fn cursor(&mut self, cursor: &Cursor) -> Option<()> {
        self.byte(VERSION)?;
        self.number(cursor.epoch.into())?;
        let (xmax, xip) = cursor.snapshot.fitting();
        self.number(xmax)?;
        self.count(xip.len())?;
        let mut above = xmax;
        for hole in xip.iter().rev() {
            self.number(above - hole - 1)?;
            above = *hole;
        }
        let seq = self.rows(&cursor.parts, RowKey { xact: xmax, seq: 0 })?;
        self.rows(&cursor.recents, RowKey { xact: xmax, seq })?;
        for byte in checksum(&self.bytes[..self.len]) {
            self.byte(byte)?;
        }
        Some(())
    }

    /// Gives the last row's seq.
    fn rows(&mut self, rows: &[RowKey], mut before: RowKey) -> Option<i64> {
        self.count(rows.len())?;
        for (place, row) in rows.iter().enumerate() {
            let ahead = row.xact.wrapping_sub(before.xact);
            let seq_ahead = row.seq.wrapping_sub(before.seq);
            if place == 0 {
                self.number(zigzag(ahead.cast_signed()))?;
            } else {
                self.number(ahead)?;
            }
            if place > 0 && ahead == 0 {
                self.number(seq_ahead.cast_unsigned() - 1)?;
            } else {
                self.number(zigzag(seq_ahead))?;
            }
            before = *row;
        }
        Some(before.seq)
    }

    fn count(&mut self, count: usize) -> Option<()> {
        self.number(u64::try_from(count).ok()?)
    }

    fn number(&mut self, mut number: u64) -> Option<()> {
        while number > 0x7f {
            self.byte(number.to_le_bytes()[0] | 0x80)?;
            number >>= 7;
        }
        self.byte(number.to_le_bytes()[0])
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.len)? = byte;
        self.len += 1;
        Some(())
    }
}

/// What is left of a cursor's bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn cursor(&mut self) -> Result<Cursor, CursorError> {
        let epoch = u32::try_from(self.number()?).map_err(|_| CursorError::NotCanonical)?;
        let snapshot = self.snapshot()?;
        let xmax = snapshot.xmax;
        let parts = self.rows(RowKey { xact: xmax, seq: 0 })?;
        let seq = parts.last().map_or(0, |part| part.seq);
        let recents = self.rows(RowKey { xact: xmax, seq })?;

        let one_part_each = parts.windows(2).all(|pair| pair[0].xact < pair[1].xact);
        let whole = Cursor { parts, ..Cursor::new(epoch, Arc::new(snapshot)) };
        let redundant = whole.parts.iter().any(|p| whole.snapshot.sees(p.xact))
            || recents.iter().any(|recent| whole.covers(*recent));
        if redundant || !one_part_each {
            return Err(CursorError::NotCanonical);
        }
        Ok(Cursor { recents, ..whole })
    }

    fn snapshot(&mut self) -> Result<Snapshot, CursorError> {
        let xmax = self.number()?;
        let count = self.count()?;
        let mut xip = Vec::with_capacity(count);
        let mut above = xmax;
        for _ in 0..count {
            let down = self.number()?;
            above = above
                .checked_sub(down)
                .and_then(|above| above.checked_sub(1))
                .filter(|hole| *hole > 0)
                .ok_or(CursorError::NotCanonical)?;
            xip.push(above);
        }
        xip.reverse();
        let snapshot = Snapshot::new(xmax, xip);
        let as_written = xmax > 0 && snapshot.xmax == xmax && snapshot.fitting().0 == xmax;
        as_written.then_some(snapshot).ok_or(CursorError::NotCanonical)
    }

    fn rows(&mut self, mut before: RowKey) -> Result<Vec<RowKey>, CursorError> {
        let count = self.count()?;
        let mut rows = Vec::with_capacity(count);
        for place in 0..count {
            let ahead = self.number()?;
            let seq_ahead = self.number()?;
            let xact = if place == 0 {
                Some(before.xact.wrapping_add_signed(unzigzag(ahead)))
            } else {
                before.xact.checked_add(ahead)
            };
            let seq = if place > 0 && ahead == 0 {
                before.seq.checked_add_unsigned(seq_ahead).and_then(|seq| seq.checked_add(1))
            } else {
                Some(before.seq.wrapping_add(unzigzag(seq_ahead)))
            };
            let (xact, seq) = xact.zip(seq).ok_or(CursorError::NotCanonical)?;
            before = RowKey { xact, seq };
            rows.push(before);
        }
        Ok(rows)
    }

    /// The length of a list, whose items are at least a byte each. Memory is taken for as many,
    /// so a count that can't be true is refused here.
    fn count(&mut self) -> Result<usize, CursorError> {
        let count = usize::try_from(self.number()?).map_err(|_| CursorError::CutShort)?;
        if count > self.0.len() {
            return Err(CursorError::CutShort);
        }
        Ok(count)
    }

    fn number(&mut self) -> Result<u64, CursorError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(CursorError::CutShort)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(CursorError::NotCanonical);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                // A last byte of 0 says nothing: the same number has a shorter form.
                let shortest = byte != 0 || shift == 0;
                return shortest.then_some(number).ok_or(CursorError::NotCanonical);
            }
        }
        Err(CursorError::NotCanonical)
    }
}

fn number_bytes(number: u64) -> usize {
    (number | 1).ilog2() as usize / 7 + 1
}

/// Small numbers of either sign as small numbers: 0, -1, 1, -2, …
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// The CRC-24 of `OpenPGP`, RFC 9580 section 6.1.1.
fn checksum(bytes: &[u8]) -> [u8; 3] {
    let crc = bytes.iter().fold(0x00b7_04ce, |crc: u32, byte| {
        let [_, top, ..] = crc.to_be_bytes();
        (crc << 8) ^ CRC_OF_BYTE[usize::from(top ^ byte)]
    });
    let [_, sum @ ..] = crc.to_be_bytes();
    sum
}

const CRC_OF_BYTE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let mut crc = byte << 16;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc & 0x0080_0000 == 0 { 0 } else { 0x0186_4cfb };
            bit += 1;
        }
        table[byte as usize] = crc & 0x00ff_ffff;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    type Rows = BTreeSet<RowKey>;

    const XACTS: u64 = 12;
    const SEQS: i64 = 4;

    fn row(xact: u64, seq: i64) -> RowKey {
        RowKey { xact, seq }
    }

    fn universe() -> impl Iterator<Item = RowKey> {
        (0..XACTS + 3).flat_map(|xact| (0..=SEQS).map(move |seq| row(xact, seq)))
    }

    fn claimed(cursor: &Cursor) -> Rows {
        universe().filter(|row| cursor.covers(*row)).collect()
    }

    fn visible(snapshot: &Snapshot) -> Rows {
        universe().filter(|row| snapshot.sees(row.xact)).collect()
    }

    fn seen(snapshot: &Snapshot) -> BTreeSet<u64> {
        (0..XACTS + 3).filter(|x| snapshot.sees(*x)).collect()
    }

    fn text(cursor: &Cursor) -> String {
        let mut text = Vec::new();
        assert!(cursor.encode(&mut text));
        String::from_utf8(text).unwrap()
    }

    fn with_checksum(mut body: Vec<u8>) -> String {
        body.extend(checksum(&body));
        URL_SAFE_NO_PAD.encode(body)
    }

    fn any_holes() -> impl Strategy<Value = (u64, BTreeSet<u64>)> {
        (1..=XACTS, vec(1..XACTS, 0..8))
            .prop_map(|(xmax, xip)| (xmax, xip.into_iter().filter(|x| *x < xmax).collect()))
    }

    fn any_snapshot() -> impl Strategy<Value = Snapshot> {
        any_holes().prop_map(|(xmax, xip)| Snapshot::new(xmax, xip.into_iter().collect()))
    }

    fn any_row() -> impl Strategy<Value = RowKey> {
        (1..=XACTS, 1..=SEQS).prop_map(|(xact, seq)| row(xact, seq))
    }

    #[derive(Clone, Debug)]
    enum Step {
        Record(RowKey),
        Replay(Snapshot, RowKey),
        Rebase(Snapshot),
        Clamp(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => any_row().prop_map(Step::Record),
            4 => (any_snapshot(), any_row()).prop_map(|(read, row)| Step::Replay(read, row)),
            2 => any_snapshot().prop_map(Step::Rebase),
            1 => (0..=XACTS + 1).prop_map(Step::Clamp),
        ]
    }

    fn take(cursor: &mut Cursor, step: &Step) {
        match step {
            Step::Record(row) => drop(cursor.record(*row)),
            Step::Replay(read, row) => drop(cursor.replay(read, *row)),
            Step::Rebase(watermark) => drop(cursor.rebase(&Arc::new(watermark.clone()))),
            Step::Clamp(first) => cursor.clamp(cursor.epoch + 1, *first),
        }
    }

    fn any_cursor() -> impl Strategy<Value = Cursor> {
        (any_snapshot(), vec(any_step(), 0..12)).prop_map(|(snapshot, steps)| {
            let mut cursor = Cursor::new(7, Arc::new(snapshot));
            for step in &steps {
                take(&mut cursor, step);
            }
            cursor
        })
    }

    /// The same with numbers of every size, near each other and far apart.
    fn any_wide_cursor() -> impl Strategy<Value = Cursor> {
        let wide = || {
            prop_oneof![
                any::<u64>(),
                (0..64_u32, 0..200_u64).prop_map(|(power, more)| (1 << power) + more),
                (0..200_u64).prop_map(|less| u64::MAX - less),
            ]
        };
        let seq = || prop_oneof![any::<i64>(), -9..9_i64, Just(i64::MIN), Just(i64::MAX)];
        let holes = prop_oneof![Just(0..1), Just(0..8), Just(0..120)]
            .prop_flat_map(move |size| vec(wide(), size));
        let rows = vec((wide(), vec(seq(), 1..4), any::<bool>()), 0..6);
        (any::<u32>(), wide(), holes, rows).prop_map(|(epoch, xmax, mut xip, rows)| {
            let xmax = xmax.max(1);
            xip.retain(|hole| (1..xmax).contains(hole));
            xip.sort_unstable();
            xip.dedup();
            let mut cursor = Cursor::new(epoch, Arc::new(Snapshot::new(xmax, xip)));
            let nothing = Snapshot::new(1, vec![]);
            for (xact, seqs, part) in rows {
                for seq in seqs {
                    let row = row(xact, seq);
                    let _ = part && cursor.replay(&nothing, row);
                    let _ = part || cursor.record(row);
                }
            }
            cursor
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_snapshot_sees_what_is_below_xmax_and_not_in_xip((xmax, xip) in any_holes()) {
            let snapshot = Snapshot::new(xmax, xip.iter().copied().collect());
            for xact in 0..XACTS + 3 {
                prop_assert_eq!(snapshot.sees(xact), xact < xmax && !xip.contains(&xact));
            }
        }

        #[test]
        fn a_snapshot_contains_exactly_its_subsets(one in any_snapshot(), other in any_snapshot()) {
            prop_assert_eq!(one.contains(&other), seen(&one).is_superset(&seen(&other)));
            prop_assert_eq!(one == other, seen(&one) == seen(&other));
        }

        #[test]
        fn advancing_is_the_union_with_the_older_transactions(
            one in any_snapshot(), later in any_snapshot(), end in 0..XACTS + 3,
        ) {
            let union: BTreeSet<u64> = (0..XACTS + 3)
                .filter(|x| one.sees(*x) || (*x < end && later.sees(*x)))
                .collect();
            let advanced = one.advance(&later, end);
            prop_assert_eq!(seen(&advanced), union);
            prop_assert!(advanced.contains(&one));
            let longer = one.xip().len().max(later.xip().len());
            prop_assert!(advanced.xip().len() <= longer);
        }

        #[test]
        fn a_clamped_snapshot_sees_nothing_from_the_first_on(
            snapshot in any_snapshot(), first in 1..XACTS + 3,
        ) {
            let clamped = snapshot.clamp(first);
            let below: BTreeSet<u64> = seen(&snapshot).into_iter().filter(|x| *x < first).collect();
            prop_assert_eq!(seen(&clamped), below);
        }

        #[test]
        fn a_snapshot_survives_its_text((xmax, xip) in any_holes()) {
            let snapshot = Snapshot::new(xmax, xip.iter().copied().collect());
            prop_assert_eq!(snapshot.to_string().parse(), Ok(snapshot.clone()));
            // As Postgres may write it, before it is brought into our representation.
            let list: Vec<String> = xip.iter().map(u64::to_string).collect();
            prop_assert_eq!(format!("1:{xmax}:{}", list.join(",")).parse(), Ok(snapshot));
        }

        #[test]
        fn recording_adds_the_row_and_nothing_else(mut cursor in any_cursor(), row in any_row()) {
            let mut expected = claimed(&cursor);
            let new = expected.insert(row);
            prop_assert_eq!(cursor.record(row), new);
            prop_assert_eq!(claimed(&cursor), expected);
        }

        /// `read` is any snapshot: older, newer, or of another history.
        #[test]
        fn replaying_adds_what_was_read_up_to_the_row_and_nothing_else(
            mut cursor in any_cursor(), read in any_snapshot(), row in any_row(),
        ) {
            let before = claimed(&cursor);
            let mut expected = before.clone();
            expected.extend(universe().filter(|r| r.xact < row.xact && read.sees(r.xact)));
            expected.extend(universe().filter(|r| r.xact == row.xact && r.seq <= row.seq));
            prop_assert_eq!(cursor.replay(&read, row), !before.contains(&row));
            prop_assert_eq!(claimed(&cursor), expected);
        }

        #[test]
        fn rebasing_adds_what_the_watermark_sees_or_leaves_all_as_it_is(
            mut cursor in any_cursor(), watermark in any_snapshot(),
        ) {
            let before = cursor.clone();
            let mut expected = claimed(&cursor);
            let moved = watermark.contains(before.snapshot());
            if moved {
                expected.extend(visible(&watermark));
            }
            prop_assert_eq!(cursor.rebase(&Arc::new(watermark.clone())), moved);
            prop_assert_eq!(claimed(&cursor), expected);
            if moved {
                prop_assert_eq!(&**cursor.snapshot(), &watermark);
                let kept = [cursor.parts(), cursor.recents()].concat();
                prop_assert!(kept.iter().all(|row| !watermark.sees(row.xact)));
            } else {
                prop_assert_eq!(cursor, before);
            }
        }

        #[test]
        fn clamping_takes_away_the_first_and_later_transactions(
            mut cursor in any_cursor(), first in 1..XACTS + 3, other in 1..XACTS + 3,
        ) {
            let mut expected = claimed(&cursor);
            expected.retain(|row| row.xact < first);
            let mut twice = cursor.clone();
            cursor.clamp(8, first);
            prop_assert_eq!(claimed(&cursor), expected);
            // Through several epochs, in any order: the same as the lowest first at once.
            twice.clamp(8, first);
            twice.clamp(9, other);
            cursor.clamp(9, first.min(other));
            prop_assert_eq!(cursor, twice);
        }

        #[test]
        fn unread_ranges_are_what_snapshot_and_parts_leave(cursor in any_cursor()) {
            let ranges = cursor.unread();
            for row in universe() {
                let read = ranges.iter().filter(|r| r.after < row && row.xact < r.before).count();
                let left = !cursor.snapshot.sees(row.xact) && !cursor.part_covers(row);
                prop_assert_eq!(read, usize::from(left), "{:?} in {:?}", row, ranges);
            }
            // In order, and neighbouring transactions in one range.
            prop_assert!(ranges.windows(2).all(|pair| pair[0].before <= pair[1].after.xact));
        }

        #[test]
        fn unread_ranges_of_any_numbers_are_few_and_ascending(cursor in any_wide_cursor()) {
            let ranges = cursor.unread();
            prop_assert!(ranges.len() <= 1 + cursor.snapshot.xip.len() + cursor.parts.len());
            prop_assert!(ranges.windows(2).all(|pair| pair[0].after < pair[1].after));
        }

        #[test]
        fn a_cursor_survives_its_encoding(small in any_cursor(), wide in any_wide_cursor()) {
            for cursor in [small, wide] {
                let text = text(&cursor);
                prop_assert!(text.len() <= MAX_LEN);
                let safe = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
                prop_assert!(text.bytes().all(safe));
                let back = Cursor::parse(&text);
                prop_assert_eq!(back, Ok(cursor), "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_the_cursor_they_encode(
            bytes in vec(any::<u8>(), 0..64),
            body in vec(prop_oneof![4 => 0..4_u8, 1 => any::<u8>()], 0..20),
        ) {
            let body = with_checksum([&[VERSION], &*body].concat());
            for input in [bytes.clone(), URL_SAFE_NO_PAD.encode(bytes).into_bytes(), body.into()] {
                if let Ok(cursor) = Cursor::parse(&input) {
                    prop_assert_eq!(text(&cursor).into_bytes(), input);
                }
            }
        }

        #[test]
        fn four_neighbouring_characters_changed_are_found(
            cursor in any_wide_cursor(), place in any::<Index>(), damage in vec(any::<u8>(), 1..=4),
        ) {
            let text = text(&cursor).into_bytes();
            let place = place.index(text.len() - damage.len() + 1);
            let mut damaged = text.clone();
            damaged[place..place + damage.len()].copy_from_slice(&damage);
            prop_assert!(damaged == text || Cursor::parse(&damaged).is_err());
            let mut swapped = text.clone();
            swapped[place..place + damage.len()].reverse();
            prop_assert!(swapped == text || Cursor::parse(&swapped).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_truncation_and_every_changed_character_is_found(
            small in any_cursor(), wide in any_wide_cursor(),
        ) {
            for cursor in [small, wide] {
                let text = text(&cursor).into_bytes();
                for place in 0..text.len() {
                    prop_assert!(Cursor::parse(&text[..place]).is_err());
                    let mut damaged = text.clone();
                    for other in (0x20..0x80).chain([0, 0x0a, 0xff]).filter(|c| *c != text[place]) {
                        damaged[place] = other;
                        prop_assert!(Cursor::parse(&damaged).is_err());
                    }
                }
            }
        }

        /// Even where a checksum happens to match: the body alone can't end early.
        #[test]
        fn a_body_cut_short_is_found_without_its_checksum(cursor in any_wide_cursor()) {
            let bytes = URL_SAFE_NO_PAD.decode(text(&cursor)).unwrap();
            let body = &bytes[..bytes.len() - 3];
            prop_assert_eq!(Cursor::parse(with_checksum(body.to_vec())), Ok(cursor));
            for end in 0..body.len() {
                prop_assert!(Cursor::parse(with_checksum(body[..end].to_vec())).is_err());
            }
            for more in 0..=255 {
                prop_assert!(Cursor::parse(with_checksum([body, &[more]].concat())).is_err());
            }
        }

        #[test]
        fn a_snapshot_of_too_many_holes_is_written_as_an_older_one(
            gaps in vec(prop_oneof![1..3_u64, 1..300_u64, 1..100_000_u64], 900..2_500),
            closed in vec(any::<bool>(), 2_500),
            more in 1..1_000_u64,
        ) {
            let xip: Vec<u64> = gaps
                .iter()
                .scan(0, |at, gap| { *at += gap; Some(*at) })
                .collect();
            let xmax = xip.last().unwrap() + 2;
            let later = xip.iter().zip(closed).filter(|(_, closed)| !closed).map(|(x, _)| *x);
            let later = Snapshot::new(xmax + more, later.chain([xmax]).filter(|x| x + 1 < xmax + more).collect());
            let snapshot = Snapshot::new(xmax, xip);
            prop_assert!(later.contains(&snapshot));

            let written = |snapshot: &Snapshot| {
                let cursor = Cursor::new(u32::MAX, Arc::new(snapshot.clone()));
                let written = Cursor::parse(text(&cursor)).unwrap();
                assert!(snapshot.contains(written.snapshot()));
                // Written once more it stays the same.
                assert_eq!(Cursor::parse(text(&written)), Ok(written.clone()));
                written.snapshot
            };
            prop_assert!(written(&later).contains(&written(&snapshot)));
        }
    }

    #[test]
    fn every_short_body_is_refused_or_the_cursor_it_encodes() {
        let digits = [0, 1, 2, 3, 0x80];
        let mut accepted = 0;
        for len in 0..=8 {
            for number in 0..5_usize.pow(len) {
                let digit = |place| digits[number / 5_usize.pow(place) % 5];
                let input =
                    with_checksum([VERSION].into_iter().chain((0..len).map(digit)).collect());
                if let Ok(cursor) = Cursor::parse(&input) {
                    accepted += 1;
                    assert_eq!(text(&cursor), input);
                }
            }
        }
        assert!(accepted > 500, "{accepted}");
    }

    #[test]
    fn what_is_no_cursor_is_refused_with_its_reason() {
        let max = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        let body = |bytes: &[u8]| Cursor::parse(with_checksum([&[VERSION], bytes].concat()));
        assert!(body(&[1, 9, 0, 0, 0]).is_ok());
        assert!(body(&[&[1], &max[..], &[0, 0, 0]].concat()).is_ok());

        let overlong = [1, 0x89, 0, 0, 0, 0];
        let trailing = [1, 9, 0, 0, 0, 0];
        let xmax_of_0 = [1, 0, 0, 0, 0];
        let hole_of_0 = [1, 9, 1, 8, 0, 0];
        let hole_below_0 = [1, 9, 1, 9, 0, 0];
        let hole_next_to_xmax = [1, 9, 1, 0, 0, 0];
        let part_that_is_seen = [1, 9, 0, 1, 1, 2, 0];
        let two_parts_of_one = [1, 9, 0, 2, 0, 2, 0, 2, 0];
        let recent_in_a_part = [1, 9, 0, 1, 0, 2, 1, 0, 0];
        let larger_than_u64 = [&[1], &max[..9], &[2, 0, 0, 0]].concat();
        let longer_than_u64 = [&[1], &[0x80; 10][..], &[1, 0, 0, 0]].concat();
        let epoch_past_u32 = [0x80, 0x80, 0x80, 0x80, 0x10, 9, 0, 0, 0];
        let xact_past_u64 = [&[1, 9, 0, 0, 2, 0, 0], &max[..], &[0]].concat();
        let seq_past_i64 = [&[1, 9, 0, 0, 2, 0, 2, 0], &max[..]].concat();
        for bytes in [
            &overlong[..],
            &trailing,
            &xmax_of_0,
            &hole_of_0,
            &hole_below_0,
            &hole_next_to_xmax,
            &part_that_is_seen,
            &two_parts_of_one,
            &recent_in_a_part,
            &larger_than_u64,
            &longer_than_u64,
            &epoch_past_u32,
            &xact_past_u64,
            &seq_past_i64,
        ] {
            assert_eq!(body(bytes), Err(CursorError::NotCanonical), "{bytes:?}");
        }

        let endless_list = [&[1], &max[..], &max[..], &[0, 0]].concat();
        assert_eq!(body(&endless_list), Err(CursorError::CutShort));
        assert_eq!(body(&[1, 9, 0, 0]), Err(CursorError::CutShort));
        assert_eq!(Cursor::parse(""), Err(CursorError::CutShort));
        assert_eq!(Cursor::parse("AQ"), Err(CursorError::CutShort));
        assert_eq!(Cursor::parse("AR"), Err(CursorError::NotBase64Url));
        assert_eq!(Cursor::parse("A Q="), Err(CursorError::NotBase64Url));
        assert_eq!(Cursor::parse([0, 0xff]), Err(CursorError::NotBase64Url));
        assert_eq!(Cursor::parse("AgAAAA"), Err(CursorError::UnknownVersion(2)));
        assert_eq!(Cursor::parse("AQAAAA"), Err(CursorError::Damaged));
        let long = "A".repeat(MAX_LEN + 1);
        assert_eq!(Cursor::parse(&long), Err(CursorError::TooLong));
    }

    #[test]
    fn what_is_no_pg_snapshot_is_refused() {
        let good = ["1:1:", "5:9:", "5:9:5", "5:9:5,8", "5:9:6,6,7"];
        for text in good {
            assert!(text.parse::<Snapshot>().is_ok(), "{text}");
        }
        let bad = [
            "",
            ":",
            "::",
            "5:9",
            "5:9:5:",
            "0:9:",
            "5:0:",
            "9:5:",
            "5:9:4",
            "5:9:9",
            "5:9:7,6",
            "5:9:,",
            "5:9:6,",
            "5:9: 6",
            "+5:9:",
            "5:9:-6",
            "5:18446744073709551616:",
            "a:b:c",
        ];
        for text in bad {
            assert_eq!(text.parse::<Snapshot>(), Err(SnapshotError), "{text}");
        }
    }

    #[test]
    fn the_checksum_is_the_one_of_openpgp() {
        assert_eq!(checksum(b"123456789"), [0x21, 0xcf, 0x02]);
    }

    #[test]
    fn usual_cursors_are_short() {
        let xmax = 1_250_000_000;
        let idle = Cursor::new(3, Arc::new(Snapshot::new(xmax, vec![])));
        assert_eq!(text(&idle).len(), 18);

        let mut live = idle.clone();
        assert!(live.record(row(xmax + 4, 8_000_000_000)));
        assert!(live.record(row(xmax + 9, 8_000_000_003)));
        assert_eq!(text(&live).len(), 28);

        let writers: Vec<u64> = (1..=30).map(|place| xmax - 1 - 7 * place).collect();
        let busy = Snapshot::new(xmax, writers.into_iter().rev().collect());
        let mut busy = Cursor::new(3, Arc::new(busy));
        for place in 0..10 {
            assert!(busy.record(row(xmax + 9 * place, 8_000_000_000 + 40 * place.cast_signed())));
        }
        assert_eq!(text(&busy).len(), 90);
    }

    #[test]
    fn too_many_rows_give_no_text_until_a_sweep() {
        let mut cursor = Cursor::new(1, Arc::new(Snapshot::new(1_000, vec![])));
        let mut out = b"id: ".to_vec();
        let mut written = 0;
        for place in 0..5_000 {
            assert!(cursor.record(row(1_000 + place, 3)));
            out.truncate(4);
            if cursor.encode(&mut out) {
                written += 1;
                assert!(out.len() <= 4 + MAX_LEN);
            } else {
                assert_eq!(out, b"id: ");
            }
        }
        assert!(written > 700, "{written}");
        assert!(cursor.rebase(&Arc::new(Snapshot::new(9_000, vec![]))));
        assert_eq!(cursor, Cursor::new(1, Arc::new(Snapshot::new(9_000, vec![]))));
        assert_eq!(cursor.recents.capacity(), 0);
    }

    #[test]
    fn a_snapshot_of_any_holes_leaves_room_for_rows() {
        for gap in [1_u64, 2, 129, 100_000, 1 << 40, 1 << 52] {
            let xip: Vec<u64> = (1..=4_000).map(|place| place * gap).collect();
            let mut cursor = Cursor::new(u32::MAX, Arc::new(Snapshot::new(u64::MAX, xip)));
            for place in 0..20 {
                assert!(cursor.record(row(u64::MAX, i64::MIN + (place << 58))));
            }
            let back = Cursor::parse(text(&cursor)).unwrap();
            assert_eq!(back.recents(), cursor.recents());
            assert!(cursor.snapshot().contains(back.snapshot()));
        }
    }

    /// A Postgres, one gateway and one client, all in one thread.
    struct World {
        seq: i64,
        xacts: BTreeMap<u64, Xact>,
        notifications: VecDeque<RowKey>,
        watermark: Snapshot,
        swept: Snapshot,
        cursor: Cursor,
        replaying: bool,
        buffer: Vec<RowKey>,
        /// What the client would send back.
        last_id: String,
        got: BTreeMap<RowKey, u32>,
    }

    #[derive(Default)]
    struct Xact {
        rows: Vec<RowKey>,
        ended: Option<End>,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum End {
        Commit,
        Abort,
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Begin,
        Insert(Index),
        End(Index, bool),
        Notify,
        LoseNotifications,
        TakeWatermark,
        /// With the watermark or row by row; cut after so many rows.
        Sweep(bool, Option<u8>),
        Page(u8, Option<u8>),
        Heartbeat,
        Cut,
    }

    fn any_act() -> impl Strategy<Value = Act> {
        let cut = || prop_oneof![Just(None), (0..4_u8).prop_map(Some)];
        prop_oneof![
            4 => Just(Act::Begin),
            8 => any::<Index>().prop_map(Act::Insert),
            4 => (any::<Index>(), any::<bool>()).prop_map(|(at, commit)| Act::End(at, commit)),
            4 => any::<Index>().prop_map(|at| Act::End(at, true)),
            6 => Just(Act::Notify),
            1 => Just(Act::LoseNotifications),
            2 => Just(Act::TakeWatermark),
            3 => (any::<bool>(), cut()).prop_map(|(whole, cut)| Act::Sweep(whole, cut)),
            5 => (1..4_u8, cut()).prop_map(|(limit, cut)| Act::Page(limit, cut)),
            1 => Just(Act::Heartbeat),
            2 => Just(Act::Cut),
        ]
    }

    impl World {
        fn new() -> Self {
            let beginning = Snapshot::new(3, vec![]);
            let cursor = Cursor::new(1, Arc::new(beginning.clone()));
            Self {
                seq: 0,
                xacts: BTreeMap::new(),
                notifications: VecDeque::new(),
                watermark: beginning.clone(),
                swept: beginning,
                last_id: text(&cursor),
                cursor,
                replaying: false,
                buffer: Vec::new(),
                got: BTreeMap::new(),
            }
        }

        /// As Postgres takes it: `xmax` follows the newest transaction that has ended.
        fn snapshot(&self) -> Snapshot {
            let open = |x: &u64| self.xacts[x].ended.is_none();
            let ended = self.xacts.keys().rev().find(|x| !open(x));
            let xmax = ended.map_or(3, |x| x + 1);
            let xip = self.xacts.keys().copied().filter(|x| *x < xmax && open(x));
            Snapshot::new(xmax, xip.collect())
        }

        fn committed(&self) -> impl Iterator<Item = RowKey> {
            let committed = self.xacts.values().filter(|x| x.ended == Some(End::Commit));
            committed.flat_map(|xact| xact.rows.iter().copied())
        }

        fn open(&self, at: Index) -> Option<u64> {
            let open = self.xacts.iter().filter(|(_, xact)| xact.ended.is_none());
            let open: Vec<u64> = open.map(|(x, _)| *x).collect();
            (!open.is_empty()).then(|| *at.get(&open))
        }

        fn send(&mut self, row: RowKey) {
            *self.got.entry(row).or_default() += 1;
            self.last_id = text(&self.cursor);
        }

        fn live(&mut self, row: RowKey) {
            if self.replaying {
                self.buffer.push(row);
            } else if self.cursor.record(row) {
                self.send(row);
            }
        }

        fn cut(&mut self) {
            self.cursor = Cursor::parse(&self.last_id).unwrap();
            self.replaying = true;
            self.buffer.clear();
        }

        fn sweep(&mut self, whole: bool, cut: Option<u8>) {
            let read = self.snapshot();
            let rows = self.committed().filter(|row| !self.swept.sees(row.xact));
            let rows: Vec<RowKey> = rows.collect();
            let watermark = Arc::new(self.watermark.clone());
            for (place, row) in rows.into_iter().enumerate() {
                if cut.is_some_and(|cut| place == usize::from(cut)) {
                    self.cut();
                }
                if self.replaying || !whole {
                    self.live(row);
                } else if self.cursor.replay(&watermark, row) {
                    self.send(row);
                }
            }
            self.swept = read;
            if !self.replaying {
                self.cursor.rebase(&watermark);
            }
        }

        fn page(&mut self, limit: u8, cut: Option<u8>) {
            let limit = usize::from(limit);
            let read = self.snapshot();
            let ranges = self.cursor.unread();
            let unread =
                |row: &RowKey| ranges.iter().any(|r| r.after < *row && row.xact < r.before);
            let rows: Vec<RowKey> = self.committed().filter(unread).take(limit).collect();
            let before = self.cursor.clone();
            for (place, row) in rows.iter().enumerate() {
                if cut.is_some_and(|cut| place == usize::from(cut)) {
                    return self.cut();
                }
                if self.cursor.replay(&read, *row) {
                    self.send(*row);
                }
            }
            if rows.len() == limit {
                assert_ne!(self.cursor, before, "a full page moves the cursor");
                return;
            }
            self.cursor = Cursor::new(1, Arc::new(read));
            self.replaying = false;
            for row in std::mem::take(&mut self.buffer) {
                self.live(row);
            }
        }

        fn act(&mut self, act: Act) {
            match act {
                Act::Begin => {
                    let xact = self.xacts.keys().last().map_or(3, |x| x + 1);
                    self.xacts.insert(xact, Xact::default());
                }
                Act::Insert(at) => {
                    if let Some(xact) = self.open(at) {
                        self.seq += 1;
                        let row = row(xact, self.seq);
                        self.xacts.get_mut(&xact).unwrap().rows.push(row);
                    }
                }
                Act::End(at, commit) => {
                    if let Some(xact) = self.open(at) {
                        let xact = self.xacts.get_mut(&xact).unwrap();
                        xact.ended = Some(if commit { End::Commit } else { End::Abort });
                        if commit {
                            self.notifications.extend(&xact.rows);
                        }
                    }
                }
                Act::Notify => {
                    if let Some(row) = self.notifications.pop_front() {
                        self.live(row);
                    }
                }
                Act::LoseNotifications => self.notifications.clear(),
                Act::TakeWatermark => self.watermark = self.snapshot(),
                Act::Sweep(whole, cut) => self.sweep(whole, cut),
                Act::Page(limit, cut) if self.replaying => self.page(limit, cut),
                Act::Page(..) => {}
                Act::Heartbeat => self.last_id = text(&self.cursor),
                Act::Cut => self.cut(),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_row_arrives_once_through_live_sweep_cut_and_replay(acts in vec(any_act(), 0..120)) {
            let mut world = World::new();
            for act in acts {
                world.act(act);
                // Never more than was sent.
                let has = Cursor::parse(&world.last_id).unwrap();
                for row in world.committed().filter(|row| has.covers(*row)) {
                    prop_assert_eq!(world.got.get(&row), Some(&1), "{:?}", row);
                }
            }
            while let Some(open) = world.xacts.values_mut().find(|xact| xact.ended.is_none()) {
                open.ended = Some(End::Commit);
            }
            while world.replaying {
                world.page(2, None);
            }
            world.sweep(true, None);
            let once: BTreeMap<RowKey, u32> = world.committed().map(|row| (row, 1)).collect();
            prop_assert_eq!(world.got, once);
        }

        #[test]
        fn a_replay_cut_after_every_row_gives_each_row_once(
            sizes in vec(0..5_i64, 1..10),
            late in vec(any::<Index>(), 10),
            live in vec(any::<Index>(), 0..4),
        ) {
            let mut world = World::new();
            for _ in &sizes {
                world.act(Act::Begin);
            }
            for (xact, size) in (3..).zip(&sizes) {
                let rows = (1..=*size).map(|seq| row(xact, seq));
                world.xacts.get_mut(&xact).unwrap().rows.extend(rows);
            }
            world.act(Act::End(late[0], true));
            for at in live {
                let rows: Vec<RowKey> = world.notifications.iter().copied().collect();
                if !rows.is_empty() {
                    world.live(*at.get(&rows));
                }
            }
            world.act(Act::Cut);
            let mut commits = late[1..].iter();
            loop {
                let had = world.got.len();
                world.page(1, None);
                prop_assert!(world.got.len() <= had + 1);
                if world.replaying && world.got.len() == had {
                    // Only a recent row: nothing was sent that a cut could come after.
                    continue;
                }
                // Before the client is back, something older may have committed.
                match commits.next() {
                    Some(at) => world.act(Act::End(*at, true)),
                    None if !world.replaying => break,
                    None => {}
                }
                world.act(Act::Cut);
            }
            let once: BTreeMap<RowKey, u32> = world.committed().map(|row| (row, 1)).collect();
            prop_assert_eq!(world.got, once);
        }
    }
}
