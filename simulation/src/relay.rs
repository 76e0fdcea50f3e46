//! The relay's server: one stream of messages, what is on its way to it, and who reads it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many messages the relay keeps, and what it does to them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// Messages that are kept.
    pub keeps: usize,
    /// Percent of the messages that one reader is never given.
    pub skips: u8,
    /// Percent of the messages that one reader is given twice.
    pub doubles: u8,
    /// Percent of the messages that are taken whatever their number is to be.
    pub unfenced: u8,
}

/// A message that is kept or delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number in the stream.
    pub number: u64,
    /// What a source wrote, or somebody else.
    pub bytes: Vec<u8>,
}

/// The relay.
pub struct RelayServer {
    manners: Manners,
    /// Changes when the storage is lost: another stream of the same name.
    identity: u64,
    kept: VecDeque<Kept>,
    /// The number of the last message that was appended, kept or not.
    last: u64,
    on_the_way: VecDeque<OnTheWay>,
    /// Whether what was on its way has become the message it was to be, until that is asked.
    answers: BTreeMap<u64, bool>,
    consumers: BTreeMap<u64, Consumer>,
    next_id: u64,
    /// Whether an edge has asked the source for a watermark.
    is_wanted: bool,
    /// Whether nobody reaches it.
    is_down: bool,
    /// The gateways that do not reach it.
    cut_off: BTreeSet<u32>,
}

/// What was sent and has not arrived.
struct OnTheWay {
    id: u64,
    gateway: u32,
    number: u64,
    bytes: Vec<u8>,
}

/// What the server knows of a reader, and what lies in the reader's socket.
struct Consumer {
    gateway: u32,
    next: u64,
    socket: VecDeque<Kept>,
    state: ConsumerState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ConsumerState {
    Reads,
    /// It gets nothing more, and is not told.
    Forgotten,
    /// Its reader is told that it has ended.
    Ended,
}

/// What a reader finds in its socket.
pub enum Delivered {
    /// A message.
    Message(Kept),
    /// Nothing yet.
    Nothing,
    /// That there will be nothing more.
    End,
}

impl RelayServer {
    /// An empty stream.
    pub fn new(manners: Manners) -> Self {
        Self {
            manners,
            identity: 1,
            kept: VecDeque::new(),
            last: 0,
            on_the_way: VecDeque::new(),
            answers: BTreeMap::new(),
            consumers: BTreeMap::new(),
            next_id: 0,
            is_wanted: false,
            is_down: false,
            cut_off: BTreeSet::new(),
        }
    }

    /// Whether `gateway` reaches it.
    pub fn is_reached_by(&self, gateway: u32) -> bool {
        !self.is_down && !self.cut_off.contains(&gateway)
    }

    /// Tells this stream from those that had its name before.
    pub fn identity(&self) -> String {
        self.identity.to_string()
    }

    /// The number of the last message, and its bytes if it is kept.
    pub fn newest(&self) -> (u64, Option<Vec<u8>>) {
        let newest = self.kept.back().filter(|kept| kept.number == self.last);
        (self.last, newest.map(|kept| kept.bytes.clone()))
    }

    // Appending.

    /// Sends a message that is to be number `number`; what it is asked about by.
    pub fn send(&mut self, gateway: u32, number: u64, bytes: Vec<u8>) -> u64 {
        let id = self.id();
        self.on_the_way.push_back(OnTheWay { id, gateway, number, bytes });
        id
    }

    /// Whether the message `id` has become what it was to be; whatever its gateway sent before
    /// arrives before. `None`: it was lost on its way.
    pub fn answer(&mut self, id: u64, dice: &mut fastrand::Rng) -> Option<bool> {
        let gateway = self.on_the_way.iter().find(|sent| sent.id == id).map(|sent| sent.gateway);
        while self.on_the_way.iter().any(|sent| sent.id == id) {
            self.carry(gateway?, dice);
        }
        self.answers.remove(&id)
    }

    /// The next message of one of those that have sent some arrives.
    pub fn carry_any(&mut self, dice: &mut fastrand::Rng) -> bool {
        let reaching: Vec<u32> = self.on_the_way.iter().map(|sent| sent.gateway).collect();
        let gateway = dice.choice(reaching).filter(|gateway| self.is_reached_by(*gateway));
        gateway.is_some_and(|gateway| self.carry(gateway, dice))
    }

    /// All that is on its way arrives.
    pub fn carry_all(&mut self, dice: &mut fastrand::Rng) {
        let mut all: Vec<u32> = self.on_the_way.iter().map(|sent| sent.gateway).collect();
        all.retain(|gateway| self.is_reached_by(*gateway));
        for gateway in all {
            self.carry(gateway, dice);
        }
    }

    fn carry(&mut self, gateway: u32, dice: &mut fastrand::Rng) -> bool {
        let first = self.on_the_way.iter().position(|sent| sent.gateway == gateway);
        let Some(sent) = first.and_then(|place| self.on_the_way.remove(place)) else {
            return false;
        };
        let is_next = sent.number == self.last + 1;
        if is_next || dice.u8(0..100) < self.manners.unfenced {
            self.append(sent.bytes);
        }
        self.answers.insert(sent.id, is_next);
        true
    }

    /// A message is appended, by whomever.
    pub fn append(&mut self, bytes: Vec<u8>) {
        self.last += 1;
        self.kept.push_back(Kept { number: self.last, bytes });
        while self.kept.len() > self.manners.keeps {
            self.kept.pop_front();
        }
    }

    /// An edge asks the source for a watermark.
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Whether one has, since this was asked last.
    pub fn take_wanted(&mut self) -> bool {
        std::mem::take(&mut self.is_wanted)
    }

    // Reading.

    /// A reader of `gateway`, behind message `place` of a stream or at the newest.
    pub fn consume(&mut self, gateway: u32, place: Option<(&str, u64)>) -> u64 {
        let oldest = self.kept.front().map_or(self.last + 1, |kept| kept.number);
        let follows = |number: u64| (oldest..=self.last + 1).contains(&(number + 1));
        let behind =
            place.filter(|(stream, number)| *stream == self.identity() && follows(*number));
        // With an empty stream that is the next one.
        let newest = self.kept.back().map_or(self.last + 1, |kept| kept.number);
        let next = behind.map_or(newest, |(_, number)| number + 1);
        let consumer =
            Consumer { gateway, next, socket: VecDeque::new(), state: ConsumerState::Reads };
        let id = self.id();
        self.consumers.insert(id, consumer);
        id
    }

    /// The reader has gone.
    pub fn leave(&mut self, reader: u64) {
        self.consumers.remove(&reader);
    }

    /// Up to `count` messages reach one of the readers.
    pub fn deliver_any(&mut self, count: usize, dice: &mut fastrand::Rng) -> bool {
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        dice.choice(ids).is_some_and(|id| self.deliver(id, count, dice))
    }

    /// All that there is reaches all readers that reach the relay.
    pub fn deliver_all(&mut self, dice: &mut fastrand::Rng) {
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        for id in ids {
            self.deliver(id, usize::MAX, dice);
        }
    }

    fn deliver(&mut self, id: u64, count: usize, dice: &mut fastrand::Rng) -> bool {
        let Self { consumers, kept, manners, is_down, cut_off, .. } = self;
        let Some(consumer) = consumers.get_mut(&id) else { return false };
        let is_reached = !*is_down && !cut_off.contains(&consumer.gateway);
        if !is_reached || consumer.state != ConsumerState::Reads {
            return false;
        }
        let from = kept.partition_point(|kept| kept.number < consumer.next);
        let mut delivered = false;
        for message in kept.iter().skip(from).take(count) {
            consumer.next = message.number + 1;
            delivered = true;
            if dice.u8(0..100) < manners.skips {
                continue;
            }
            consumer.socket.push_back(message.clone());
            if dice.u8(0..100) < manners.doubles {
                consumer.socket.push_back(message.clone());
            }
        }
        delivered
    }

    /// Whether the reader has something to read.
    pub fn has_news(&self, reader: u64) -> bool {
        self.consumers.get(&reader).is_none_or(|consumer| {
            !consumer.socket.is_empty() || consumer.state == ConsumerState::Ended
        })
    }

    /// What the reader finds.
    pub fn take(&mut self, reader: u64) -> Delivered {
        let Some(consumer) = self.consumers.get_mut(&reader) else { return Delivered::End };
        match consumer.socket.pop_front() {
            Some(message) => Delivered::Message(message),
            None if consumer.state == ConsumerState::Ended => Delivered::End,
            None => Delivered::Nothing,
        }
    }

    // What goes wrong.

    /// Nobody reaches it any more, or one gateway does not. What is on its way may be lost.
    pub fn go_down(&mut self, gateway: Option<u32>, dice: &mut fastrand::Rng) {
        match gateway {
            None => self.is_down = true,
            Some(gateway) => drop(self.cut_off.insert(gateway)),
        }
        if dice.bool() {
            self.on_the_way.retain(|sent| gateway.is_some_and(|gateway| sent.gateway != gateway));
        }
    }

    /// Everybody reaches it again; `false`: everybody did.
    pub fn come_up(&mut self) -> bool {
        let was_up = !self.is_down && self.cut_off.is_empty();
        self.is_down = false;
        self.cut_off.clear();
        !was_up
    }

    /// From now on it takes messages as it is to, and gives each once.
    pub fn behave(&mut self) {
        self.manners = Manners { keeps: self.manners.keeps, ..Manners::default() };
    }

    /// Its storage is lost: another stream begins, with the same name.
    pub fn wipe(&mut self, dice: &mut fastrand::Rng) {
        self.identity += 1;
        self.kept.clear();
        self.last = 0;
        for consumer in self.consumers.values_mut() {
            match dice.u8(0..4) {
                0 => consumer.state = ConsumerState::Ended,
                1 => consumer.state = ConsumerState::Forgotten,
                // Made anew by the library, which knows nothing of the storage.
                2 => consumer.next = 1,
                _ => {}
            }
        }
    }

    /// The last messages are lost; `false`: there are none.
    pub fn lose_newest(&mut self, dice: &mut fastrand::Rng) -> bool {
        if self.kept.is_empty() {
            return false;
        }
        let left = dice.usize(0..self.kept.len());
        self.last -= (self.kept.len() - left) as u64;
        self.kept.truncate(left);
        true
    }

    /// The first messages are dropped; `false`: there are none.
    pub fn roll_over(&mut self, dice: &mut fastrand::Rng) -> bool {
        if self.kept.is_empty() {
            return false;
        }
        let dropped = 1 + dice.usize(0..self.kept.len());
        self.kept.drain(..dropped);
        true
    }

    /// One of the readers gets nothing more, or misses what comes next; `false` if nobody reads.
    pub fn lose_reader(&mut self, dice: &mut fastrand::Rng) -> bool {
        let last = self.last;
        let Some(consumer) = dice.choice(self.consumers.values_mut()) else { return false };
        match dice.u8(0..4) {
            0 => consumer.state = ConsumerState::Ended,
            1 => consumer.state = ConsumerState::Forgotten,
            2 => consumer.next = last + 1,
            _ => consumer.socket.clear(),
        }
        true
    }

    /// What is on its way does not arrive; `false`: nothing is.
    pub fn lose_sent(&mut self) -> bool {
        let was_empty = self.on_the_way.is_empty();
        self.on_the_way.clear();
        !was_empty
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HONEST: Manners = Manners { keeps: 3, skips: 0, doubles: 0, unfenced: 0 };

    fn read(relay: &mut RelayServer, reader: u64) -> Vec<u64> {
        relay.deliver_all(&mut fastrand::Rng::with_seed(1));
        let mut numbers = Vec::new();
        while let Delivered::Message(message) = relay.take(reader) {
            numbers.push(message.number);
        }
        numbers
    }

    #[test]
    fn a_message_is_taken_as_the_next_and_as_no_other() {
        let mut dice = fastrand::Rng::with_seed(1);
        let mut relay = RelayServer::new(HONEST);
        let [first, again, second] = [(7, 1, b"a"), (8, 1, b"b"), (7, 2, b"c")]
            .map(|(gateway, number, bytes)| relay.send(gateway, number, bytes.to_vec()));
        // What its gateway sent before arrives with it.
        assert_eq!(relay.answer(second, &mut dice), Some(true));
        assert_eq!(relay.answer(again, &mut dice), Some(false));
        assert_eq!(relay.answer(first, &mut dice), Some(true));
        assert_eq!(relay.newest(), (2, Some(b"c".to_vec())));
        let lost = relay.send(7, 3, vec![7]);
        assert!(relay.lose_sent());
        assert_eq!(relay.answer(lost, &mut dice), None);
    }

    #[test]
    fn a_reader_goes_on_where_it_was_or_begins_with_the_newest() {
        let mut relay = RelayServer::new(HONEST);
        (1..=5).for_each(|number| relay.append(vec![number]));
        let mut behind = |place| {
            let reader = relay.consume(1, place);
            read(&mut relay, reader)
        };
        assert_eq!(behind(None), [5]);
        assert_eq!(behind(Some(("1", 3))), [4, 5]);
        assert!(behind(Some(("1", 5))).is_empty());
        // Rolled over, of the future, of another stream.
        for place in [("1", 1), ("1", 6), ("2", 3)] {
            assert_eq!(behind(Some(place)), [5]);
        }
    }

    #[test]
    fn nothing_passes_while_it_is_down() {
        let mut dice = fastrand::Rng::with_seed(1);
        let mut relay = RelayServer::new(HONEST);
        let reader = relay.consume(1, None);
        relay.append(vec![1]);
        relay.go_down(Some(1), &mut dice);
        assert!(!relay.is_reached_by(1) && relay.is_reached_by(2));
        assert!(read(&mut relay, reader).is_empty());
        assert!(relay.come_up() && !relay.come_up());
        assert_eq!(read(&mut relay, reader), [1]);
    }
}
