//! The parameters of one history, skewed at random: each leaves out some kinds
//! of faults altogether and has too much of others. A mean of everything finds
//! less: where every LISTEN connection is lost at once, no notification is ever
//! late.

use std::time::Duration;

use clap::ValueEnum;
use notify_gateway::quiet::QuietMode;

use crate::relay::Manners;

/// What can happen in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A whole small transaction.
    Write,
    /// A transaction begins.
    Begin,
    /// A row, or a change of one, in one that is open.
    Insert,
    /// One commits, or goes on committing.
    Commit,
    /// One rolls back.
    RollBack,
    /// A transaction of the application only notifies: its number is used up
    /// and not flushed.
    NotifyOnly,
    /// A transaction that got a number rolls back at once.
    Abort,
    /// Somebody types into the channel.
    Junk,
    /// The WAL writer comes by.
    FlushWal,
    /// What the log says of rows that are gone is erased.
    Erase,
    /// The standby gets some WAL.
    Replicate,
    /// Notifications reach a gateway.
    Arrive,
    /// A listener goes on.
    Listen,
    /// A sweeper goes on.
    Sweep,
    /// A replayer goes on.
    Replay,
    /// A stream goes on.
    Poll,
    /// Heartbeats are due.
    Heartbeat,
    /// A client loads its list, and with it the cursor to begin at.
    Load,
    /// A client connects.
    Connect,
    /// A client reads an event.
    Read,
    /// The server comes up again.
    Recover,
    /// A killed gateway starts anew.
    Start,
    /// A gateway finds that a client is gone.
    Forget,
    /// A client is cut off.
    Cut,
    /// A user is logged out everywhere.
    Revoke,
    /// The server crashes.
    Crash,
    /// The server is restarted in good order.
    Restart,
    /// The server is lost, its standby takes over.
    Promote,
    /// The server's data directory is exchanged for an older copy.
    SetBack,
    /// A LISTEN connection breaks.
    LoseListen,
    /// A connection of the pool breaks.
    LoseSession,
    /// A gateway is killed.
    Kill,
    /// A gateway is stopped in good order.
    Stop,
    /// Everything goes on for a while.
    GoOn,
    /// What a source hears of the relay.
    Append,
    /// What is on its way to the relay arrives.
    Carry,
    /// Messages reach a reader of the relay.
    Deliver,
    /// An edge goes on.
    Follow,
    /// The relay is reached again.
    Reach,
    /// The relay cannot be reached, by one gateway or by all.
    CutRelay,
    /// The relay's storage is lost.
    Wipe,
    /// The relay's last messages are lost.
    LoseNewest,
    /// The relay's first messages are dropped.
    RollOver,
    /// A reader of the relay gets nothing more, or misses something.
    LoseReader,
    /// What is on its way to the relay is lost.
    LoseSent,
    /// Somebody else writes to the relay.
    Intrude,
    /// The session of a source is cut off.
    LoseLead,
}

impl Act {
    /// The faults, in the order of the table.
    pub const FAULTS: [Self; 23] = [
        Self::RollBack,
        Self::NotifyOnly,
        Self::Abort,
        Self::Junk,
        Self::Forget,
        Self::Cut,
        Self::Revoke,
        Self::Crash,
        Self::Restart,
        Self::Promote,
        Self::SetBack,
        Self::LoseListen,
        Self::LoseSession,
        Self::Kill,
        Self::Stop,
        Self::CutRelay,
        Self::Wipe,
        Self::LoseNewest,
        Self::RollOver,
        Self::LoseReader,
        Self::LoseSent,
        Self::Intrude,
        Self::LoseLead,
    ];
}

/// One history's parameters.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many steps.
    pub steps: usize,
    /// How many gateways.
    pub gateways: usize,
    /// How many users.
    pub users: usize,
    /// How many clients.
    pub clients: usize,
    /// Whether the gateways are ready before the first step.
    pub starts_ready: bool,
    /// Bound of a stream's queue.
    pub queue_events: usize,
    /// Events a socket holds before it takes no more.
    pub socket_events: usize,
    /// Rows of a page, from each range.
    pub page_rows: usize,
    /// Size of a page; rows count 1 to 4.
    pub page_size: usize,
    /// A reconnect replays no more than this.
    pub replay_limit: usize,
    /// A sweep lists no more than this.
    pub max_unseen: usize,
    /// The first transaction number.
    pub first_xact: u64,
    /// Values a sequence logs ahead.
    pub seq_lookahead: i64,
    /// Percent of the transactions that ring never.
    pub silent_writers: u8,
    /// When the triggers are to be quiet.
    pub quiet: QuietMode,
    /// Percent of the transactions in ring mode.
    pub ring_writers: u8,
    /// Percent of the writes that change a row that is there.
    pub changes: u8,
    /// Percent of these that delete it.
    pub deletes: u8,
    /// Percent of the rows that no notification carries.
    pub large_rows: u8,
    /// Percent of the commits that another step may come in between.
    pub slow_commits: u8,
    /// Percent of the crashes that take a while.
    pub outages: u8,
    /// Percent of the lists whose cursor claims the snapshot as it is.
    pub unflushed_lists: u8,
    /// Percent of the pages after which an answer is full.
    pub full_answers: u8,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// The relay, if the gateways have one.
    pub relay: Option<RelayPlan>,
    acts: Vec<(Act, u32)>,
    weight: u32,
}

/// Which histories have a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Relayed {
    /// None.
    Never,
    /// Some.
    #[default]
    Some,
    /// All.
    Always,
}

/// How the relay of a history is.
#[derive(Clone, Copy, Debug)]
pub struct RelayPlan {
    /// What it does to messages.
    pub manners: Manners,
    /// Percent of the gateways that are no source.
    pub edges_only: u8,
    /// Percent of those that ask for the lock and are given it while another has it.
    pub double_leads: u8,
    /// How long a part of a gateway that waits for its clock does so, in percent of the longest.
    pub pace: u8,
    /// The most turns that a part of a gateway gets in one step: there are more that wait for
    /// some than without a relay.
    pub burst: usize,
    /// Whether it is not reached when everything else is mended.
    pub is_gone: bool,
}

impl RelayPlan {
    fn new(dice: &mut fastrand::Rng) -> Self {
        let keeps = [1000, 1000, 1 + dice.usize(0..4)][dice.usize(0..3)];
        let manners = Manners {
            keeps,
            skips: [0, 0, 0, 10][dice.usize(0..4)],
            doubles: [0, 0, 20][dice.usize(0..3)],
            unfenced: [0, 0, 0, 30, 100][dice.usize(0..5)],
        };
        Self {
            manners,
            edges_only: [0, 0, 0, 30, 60][dice.usize(0..5)],
            double_leads: [0, 0, 0, 20][dice.usize(0..4)],
            pace: [2, 5, 20, 100][dice.usize(0..4)],
            burst: [1, 4, 12, 12][dice.usize(0..4)],
            is_gone: dice.u8(0..4) == 0,
        }
    }
}

impl Plan {
    /// A plan by the dice.
    pub fn new(dice: &mut fastrand::Rng, relayed: Relayed) -> Self {
        // Of its own, so that a history without a relay is the same whatever is asked for.
        let mut relay_dice = fastrand::Rng::with_seed(dice.clone().u64(..));
        let is_one = relay_dice.u8(0..6) == 0;
        let has_relay = relayed == Relayed::Always || relayed == Relayed::Some && is_one;
        let relay = has_relay.then(|| RelayPlan::new(&mut relay_dice));
        let steps = 20 + dice.usize(0..=60) * dice.usize(0..=4);
        let gateways = [1, 1, 2, 2, 3][dice.usize(0..5)];
        let users = dice.usize(1..=3);
        let mut acts = acts(dice);
        if relay.is_some() {
            acts.extend(relay_acts(&mut relay_dice));
            // A late notification of what was erased comes behind the deletion that a sweep has
            // found, with a relay or without.
            acts.retain(|(act, _)| *act != Act::Erase);
        }
        let heartbeat = [500, 2000, 2000, 30_000][dice.usize(0..4)];
        // A heartbeat that is waited for is a time in which no source is heard.
        let is_short = relay.is_some() && relay_dice.u8(0..4) > 0;
        let heartbeat = Duration::from_millis(if is_short { 500 } else { heartbeat });
        let mut percent = |most: u8| if dice.bool() { dice.u8(0..=most) } else { 0 };
        let (mut silent_writers, ring_writers) = (percent(60), percent(40));
        let (mut changes, deletes) = (percent(90), percent(30));
        let large_rows = percent(60);
        // What a notification brings overtakes what no trigger rang for, with a relay or
        // without; here it would happen often, as everything runs before the first step.
        if relay.is_some() {
            let is_silent = relay_dice.bool();
            *(if is_silent { &mut changes } else { &mut silent_writers }) = 0;
        }
        let (slow_commits, outages) = (percent(100), percent(100));
        let mut bound = |least: usize| match dice.u8(0..3) {
            0 => 1000,
            _ => least + dice.usize(0..4),
        };
        let (queue_events, socket_events) = (bound(1), bound(1));
        let (page_rows, page_size) = (bound(1), bound(1));
        let max_unseen = bound(0);
        Self {
            // More has to happen until a row is delivered.
            steps: if relay.is_some() { 3 * steps } else { steps },
            gateways,
            users,
            clients: dice.usize(1..=4),
            starts_ready: dice.u8(0..10) > 0,
            queue_events,
            socket_events,
            page_rows,
            page_size,
            replay_limit: if dice.u8(0..20) == 0 { dice.usize(1..6) } else { 100_000 },
            max_unseen,
            first_xact: [3, 100, 4_294_967_290, 1 << 40][dice.usize(0..4)],
            seq_lookahead: dice.i64(1..5),
            silent_writers,
            quiet: [QuietMode::Never, QuietMode::Auto, QuietMode::Auto, QuietMode::Always]
                [dice.usize(0..4)],
            ring_writers,
            changes,
            deletes,
            large_rows,
            slow_commits,
            outages,
            unflushed_lists: [0, 0, 30, 100][dice.usize(0..4)],
            full_answers: [0, 0, 10, 50][dice.usize(0..4)],
            heartbeat,
            relay,
            weight: acts.iter().map(|(_, weight)| weight).sum(),
            acts,
        }
    }

    /// What happens next.
    pub fn act(&self, dice: &mut fastrand::Rng) -> Act {
        let mut rest = dice.u32(0..self.weight);
        for (act, weight) in &self.acts {
            match rest.checked_sub(*weight) {
                None => return *act,
                Some(less) => rest = less,
            }
        }
        Act::Read
    }
}

fn acts(dice: &mut fastrand::Rng) -> Vec<(Act, u32)> {
    use Act::*;

    // Numbers that are given out again, right behind a crash: what a sweep saw before it
    // must not count. Too much has to come together for chance alone.
    if dice.u8(0..16) == 0 {
        return vec![
            (Junk, 30),
            (Sweep, 100),
            (Crash, 10),
            (Write, 30),
            (Arrive, 10),
            (Listen, 40),
            (Replay, 20),
            (Poll, 20),
            (Read, 20),
            (Connect, 20),
        ];
    }
    // The machines always run, one much faster than another.
    let machines = [Arrive, Listen, Sweep, Replay, Poll, Read, Connect];
    // The rest is there or not.
    let frequent = [
        Write, Begin, Insert, Commit, Insert, Commit, Heartbeat, Replicate, FlushWal, Junk, Load,
        Erase,
    ];
    let rare = [
        RollBack,
        NotifyOnly,
        Abort,
        Junk,
        Forget,
        Cut,
        Revoke,
        Crash,
        Restart,
        Promote,
        SetBack,
        LoseListen,
        LoseSession,
        Kill,
        Stop,
    ];
    let mut acts = vec![(Recover, 20), (Start, 20), (Write, 10 << dice.u32(0..4))];
    acts.extend(machines.map(|act| match dice.u8(0..4) {
        0 => (act, 4 << dice.u32(0..7)),
        _ => (act, 40 << dice.u32(0..3)),
    }));
    for act in frequent {
        if dice.u8(0..4) > 0 {
            acts.push((act, 8 << dice.u32(0..4)));
        }
    }
    // Most of what goes wrong needs one or two faults and quiet around them.
    let (one_in, most) = [(12, 3), (6, 4), (3, 5)][dice.usize(0..3)];
    for act in rare {
        if dice.u8(0..one_in) == 0 {
            acts.push((act, 2 << dice.u32(0..most)));
        }
    }
    acts
}

/// What happens to a relay, beside the rest.
fn relay_acts(dice: &mut fastrand::Rng) -> Vec<(Act, u32)> {
    use Act::*;

    let mut acts = vec![(Reach, 20), (GoOn, [0, 10, 50, 200][dice.usize(0..4)])];
    acts.extend([Append, Carry, Deliver, Follow].map(|act| match dice.u8(0..4) {
        0 => (act, 8 << dice.u32(0..6)),
        _ => (act, 60 << dice.u32(0..3)),
    }));
    let rare = [CutRelay, Wipe, LoseNewest, RollOver, LoseReader, LoseSent, Intrude, LoseLead];
    let (one_in, most) = [(12, 3), (6, 4), (3, 5)][dice.usize(0..3)];
    for act in rare {
        if dice.u8(0..one_in) == 0 {
            // Mostly nothing is on its way that could be lost.
            let least = if act == LoseSent { 16 } else { 2 };
            acts.push((act, least << dice.u32(0..most)));
        }
    }
    acts
}
