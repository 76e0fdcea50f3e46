//! The cases.

use std::hint::black_box;

use notify_gateway::cursor::Cursor;

use crate::gateway::{self, Streams};

/// How many operations one run of a case is; scripts/check-instructions divides by it.
pub const OPERATIONS: u32 = 1_000;

/// What is measured.
pub const NAMES: [&str; 17] = [
    "decode/event",
    "decode/ring",
    "route/10 users",
    "route/1,000 users",
    "route/100,000 users",
    "route/1,000 streams of one user",
    "encode",
    "heartbeat",
    "cursor/encode/0 recents",
    "cursor/encode/4 recents",
    "cursor/encode/100 recents",
    "cursor/parse/0 recents",
    "cursor/parse/4 recents",
    "cursor/parse/100 recents",
    "cursor/record and rebase/0 recents",
    "cursor/record and rebase/4 recents",
    "cursor/record and rebase/100 recents",
];

/// What one event of a table of notifications carries: with its envelope some 440 bytes.
const DATA: &str = concat!(
    r#"{"id":"6f1c2f5e-52a4-4b5f-9a3f-0d6a7f3b9e21","kind":"comment","title":"Ada commented on "#,
    r#"\"Quarterly report\"","message":"Looks good to me, but the second table still has last "#,
    r#"year's numbers.","link":"/documents/1842#comment-77","read":false,"created_at":"#,
    r#""2026-03-14T09:26:53.589793+00:00"}"#,
);

/// What is measured, with all it needs.
pub struct Case(Box<dyn FnMut()>);

impl Case {
    /// [`OPERATIONS`] times.
    pub fn run(&mut self) {
        (self.0)();
    }

    /// One that has run once, so that what is made on first use is there.
    fn new(mut run: impl FnMut() + 'static) -> Self {
        run();
        Self(Box::new(run))
    }

    fn of_each(mut operation: impl FnMut() + 'static) -> Self {
        Self::new(move || (0..OPERATIONS).for_each(|_| operation()))
    }
}

/// The case of this name.
///
/// # Panics
///
/// It is not one of [`NAMES`].
pub fn case(name: &str) -> Case {
    let (what, of) = name.split_once('/').unwrap_or((name, ""));
    match what {
        "decode" => decode(of),
        "route" => route(of),
        "encode" => encode(),
        "heartbeat" => heartbeat(),
        "cursor" => cursor(of),
        _ => unknown(name),
    }
}

fn decode(what: &str) -> Case {
    let payload = match what {
        "event" => format!(
            concat!(
                r#"{{"xact_id":"7451234","seq":812345,"user_id":"#,
                r#""11111111-2222-3333-4444-555555555555","event":"notification","at":1773480413.589793,"data":{}}}"#
            ),
            DATA,
        ),
        "ring" => r#"{"xact_id":"7451234"}"#.to_owned(),
        _ => unknown(what),
    };
    Case::of_each(move || drop(black_box(gateway::decode(black_box(&payload)))))
}

fn route(among: &str) -> Case {
    let (users, streams_of_each) = match among {
        "10 users" => (10, 1),
        "1,000 users" => (1_000, 1),
        "100,000 users" => (100_000, 1),
        "1,000 streams of one user" => (1, 1_000),
        _ => unknown(among),
    };
    let mut streams = Streams::open(users, streams_of_each);
    if users == 1 {
        // A delivery to each is as many operations.
        return Case::new(move || streams.route(0));
    }
    // Users that are far apart, and come round again where there are few.
    let rows: Vec<usize> = (0..OPERATIONS as usize).map(|row| row * 97 % users).collect();
    Case::new(move || rows.iter().for_each(|user| streams.route(*user)))
}

fn encode() -> Case {
    Case::of_each(|| drop(black_box(gateway::encode(black_box(DATA)))))
}

/// It reads the clock: a date is written by going through the months, so that the count goes up and
/// down by 1 % over the year.
fn heartbeat() -> Case {
    let cursor = gateway::cursor(0);
    let mut out = Vec::new();
    Case::of_each(move || {
        out.clear();
        gateway::heartbeat(&mut out, black_box(&cursor));
        black_box(&out);
    })
}

fn cursor(what: &str) -> Case {
    let (what, recents) = what.split_once('/').unwrap_or_default();
    let recents = match recents {
        "0 recents" => 0,
        "4 recents" => 4,
        "100 recents" => 100,
        _ => unknown(recents),
    };
    let cursor = gateway::cursor(recents);
    let mut text = Vec::new();
    assert!(cursor.encode(&mut text), "it is short enough");
    match what {
        "encode" => Case::of_each(move || {
            text.clear();
            assert!(black_box(&cursor).encode(&mut text), "it is short enough");
            black_box(&text);
        }),
        "parse" => Case::of_each(move || {
            drop(black_box(Cursor::parse(black_box(&text)).expect("a cursor")));
        }),
        "record and rebase" => {
            // A row more, and then the watermark that sees all but that one.
            let (row, watermark) = (gateway::row(recents), gateway::watermark(recents));
            Case::of_each(move || {
                let mut cursor = Cursor::clone(black_box(&cursor));
                assert!(cursor.record(black_box(row)), "a new row");
                assert!(cursor.rebase(black_box(&watermark)), "a newer watermark");
                black_box(&cursor);
            })
        }
        _ => unknown(what),
    }
}

fn unknown(name: &str) -> ! {
    panic!("there is no case {name:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_can_be_made_and_run() {
        for name in NAMES {
            case(name).run();
        }
    }

    #[test]
    fn the_instructions_of_every_case_are_counted() {
        let counted = include_str!("../benches/instructions.rs");
        for name in NAMES {
            assert!(counted.contains(&format!("(\"{name}\")]")), "{name}");
        }
    }
}
