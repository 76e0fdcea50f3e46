//! How many connections there may be, in all and of one address, and which one
//! makes room for a new one.
//!
//! A connection that asks for nothing costs a file descriptor as much as a
//! stream does. Of those that are not being answered the oldest makes room: an
//! honest client asks at once, so a crowd of silent ones pushes out its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{error::LogGate, metrics::Counter};

/// How many connections a port takes.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// In all.
    pub connections: usize,
    /// Of one address; of one /64 where it is IPv6.
    pub per_address: usize,
    /// Proxies, each of which brings the connections of many clients: they are
    /// bounded in all alone.
    pub exempt: Vec<IpNet>,
    /// Counts the connections that were refused or had to make room.
    pub refused: Counter,
}

/// The connections of a port.
pub(super) struct Places {
    bounds: Bounds,
    taken: Mutex<Taken>,
    log: LogGate,
}

#[derive(Default)]
struct Taken {
    open: usize,
    next_id: u64,
    /// Those that are not being answered, the oldest first.
    idle: BTreeMap<u64, IdleEntry>,
    of_client: HashMap<IpAddr, OfClient, RandomState>,
}

struct IdleEntry {
    client: Option<IpAddr>,
    cut: Arc<Notify>,
}

#[derive(Default)]
struct OfClient {
    open: usize,
    idle: BTreeSet<u64>,
}

impl Places {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, taken: Mutex::default(), log: LogGate::default() })
    }

    /// A place for a connection from `address`. At a bound the oldest idle
    /// connection is cut for it; there is none when all are being answered, and
    /// then there is no place.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let client = self.client(address);
        let mut taken = self.taken.lock();
        let of_client = client.and_then(|client| taken.of_client.get(&client));
        let oldest_of_client = of_client
            .filter(|of| of.open >= self.bounds.per_address)
            .map(|of| of.idle.first().copied());
        let oldest = match oldest_of_client {
            Some(oldest) => Some(oldest),
            None if taken.open >= self.bounds.connections => Some(taken.oldest()),
            None => None,
        };
        if let Some(oldest) = oldest {
            self.count();
            taken.cut(oldest?);
        }
        taken.open += 1;
        if let Some(client) = client {
            taken.of_client.entry(client).or_default().open += 1;
        }
        Some(Place { places: Arc::clone(self), client })
    }

    /// How many places are taken.
    pub(super) fn open(&self) -> usize {
        self.taken.lock().open
    }

    /// Cuts the oldest idle connection, if there is one.
    pub(super) fn make_room(&self) {
        let mut taken = self.taken.lock();
        if let Some(oldest) = taken.oldest() {
            self.count();
            taken.cut(oldest);
        }
    }

    /// Counts a connection that has to go, and tells the operator once a burst.
    fn count(&self) {
        self.bounds.refused.increment(1);
        if self.log.opens() {
            tracing::warn!(
                max_connections = self.bounds.connections,
                max_connections_per_address = self.bounds.per_address,
                "there are as many connections as there may be, in all or of one address \
                 (--max-connections, ulimit -n; a proxy that is not in --trusted-proxies is one \
                 address): the oldest that asks for nothing makes room; more in the next minute \
                 are only counted"
            );
        }
    }

    /// Whose connection it counts as; `None` for a proxy's.
    fn client(&self, address: IpAddr) -> Option<IpAddr> {
        const HOST_BITS: u32 = 64;
        let address = address.to_canonical();
        let is_exempt = self.bounds.exempt.iter().any(|network| network.contains(&address));
        (!is_exempt).then_some(match address {
            IpAddr::V4(_) => address,
            // A host on IPv6 has a /64 to pick from.
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> HOST_BITS << HOST_BITS).into(),
        })
    }
}

impl Taken {
    fn oldest(&self) -> Option<u64> {
        self.idle.first_key_value().map(|(id, _)| *id)
    }

    fn cut(&mut self, id: u64) {
        if let Some(entry) = self.remove_idle(id) {
            entry.cut.notify_one();
        }
    }

    fn remove_idle(&mut self, id: u64) -> Option<IdleEntry> {
        let entry = self.idle.remove(&id)?;
        if let Some(of_client) = entry.client.and_then(|client| self.of_client.get_mut(&client)) {
            of_client.idle.remove(&id);
        }
        Some(entry)
    }
}

/// A connection's place, which it gives back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    client: Option<IpAddr>,
}

impl Place {
    /// From here on, and until [`Place::busy`], the connection may be cut: then
    /// `cut` is notified.
    pub(super) fn rest(&self, cut: &Arc<Notify>) -> u64 {
        let mut taken = self.places.taken.lock();
        let id = taken.next_id;
        taken.next_id += 1;
        let entry = IdleEntry { client: self.client, cut: Arc::clone(cut) };
        taken.idle.insert(id, entry);
        if let Some(of_client) = self.client.and_then(|client| taken.of_client.get_mut(&client)) {
            of_client.idle.insert(id);
        }
        id
    }

    /// The connection is being answered.
    pub(super) fn busy(&self, id: u64) {
        self.places.taken.lock().remove_idle(id);
    }

    /// As [`Place::rest`], until what it returns is dropped.
    pub(super) fn idle(&self) -> Idle<'_> {
        let cut = Arc::new(Notify::new());
        Idle { place: self, id: self.rest(&cut), cut }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.open -= 1;
        let Some(client) = self.client else { return };
        if let Some(of_client) = taken.of_client.get_mut(&client) {
            of_client.open -= 1;
            if of_client.open == 0 {
                taken.of_client.remove(&client);
            }
        }
    }
}

/// A connection that asks for nothing.
pub(super) struct Idle<'a> {
    place: &'a Place,
    id: u64,
    cut: Arc<Notify>,
}

impl Idle<'_> {
    /// Waits until it has to make room.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.place.busy(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    fn places(connections: usize, per_address: usize) -> Arc<Places> {
        let exempt = vec!["10.0.0.0/8".parse().unwrap()];
        Places::new(Bounds { connections, per_address, exempt, refused: Counter::default() })
    }

    fn is_cut(idle: &Idle<'_>) -> bool {
        let mut cut = std::pin::pin!(idle.cut());
        cut.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_oldest_that_asks_for_nothing_makes_room_and_one_that_is_answered_does_not() {
        let places = places(3, 10);
        let held = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let held = held.map(|text| places.enter(address(text)).unwrap());
        let (second, third) = (held[1].idle(), held[2].idle());
        let _fourth = places.enter(address("192.0.2.4")).unwrap();
        assert!(is_cut(&second) && !is_cut(&third));
        let _fifth = places.enter(address("192.0.2.5")).unwrap();
        assert!(is_cut(&third));
        assert!(places.enter(address("192.0.2.6")).is_none(), "all are being answered");
    }

    #[test]
    fn one_address_makes_room_for_itself_and_a_proxy_is_bounded_in_all_alone() {
        let places = places(100, 2);
        let other = places.enter(address("192.0.2.9")).unwrap();
        let other = other.idle();
        // Two addresses of one host.
        let first = places.enter(address("2001:db8::1")).unwrap();
        let first = first.idle();
        let _second = places.enter(address("2001:db8::2")).unwrap();
        let _third = places.enter(address("2001:db8::3")).unwrap();
        assert!(is_cut(&first) && !is_cut(&other));
        assert!(places.enter(address("2001:db8::4")).is_none());
        assert!(places.enter(address("2001:db8:0:1::1")).is_some());
        let proxied: Vec<_> = (0..50).map(|_| places.enter(address("::ffff:10.0.0.1"))).collect();
        assert!(proxied.iter().all(Option::is_some));
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_nothing_is_left_behind(
            steps in proptest::collection::vec((0_u8..4, 0_u8..3, 0_usize..8), 0..60),
        ) {
            let places = places(5, 3);
            let cut = Arc::new(Notify::new());
            let mut open: Vec<(Place, Option<u64>)> = Vec::new();
            for (step, host, index) in steps {
                match step {
                    0 => open.extend(
                        places.enter(IpAddr::from([192, 0, 2, host])).map(|place| (place, None)),
                    ),
                    1 => if let Some((place, id @ None)) = open.get_mut(index) {
                        *id = Some(place.rest(&cut));
                    },
                    2 => if let Some((place, id)) = open.get_mut(index)
                        && let Some(id) = id.take()
                    {
                        place.busy(id);
                    },
                    _ => if index < open.len() {
                        let (place, id) = open.remove(index);
                        id.into_iter().for_each(|id| place.busy(id));
                    },
                }
                prop_assert_eq!(places.taken.lock().open, open.len());
            }
            for (place, id) in open {
                id.into_iter().for_each(|id| place.busy(id));
            }
            let taken = places.taken.lock();
            prop_assert!(taken.open == 0 && taken.idle.is_empty() && taken.of_client.is_empty());
        }
    }
}
