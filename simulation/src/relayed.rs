//! The parts of a gateway that has a relay: its edge, and its source.

use std::sync::Arc;

use notify_gateway::{
    health::Health,
    hub::Hub,
    looks::Looks,
    metrics::Metrics,
    quiet::Load,
    relay::{Edge, Source},
};

use crate::{
    database::{Database, Hearing},
    gateway::{QUIET_ABOVE, QUIET_INTERVAL, SWEEP_INTERVAL},
    lead::Lock,
    part::Part,
    relay_client::RelayClient,
    server::Shared,
    turns::Turns,
};

/// The kinds of turns of an edge and of a source.
pub const STORE: usize = 0;
/// See [`STORE`].
pub const RELAY: usize = 1;
/// Of a source only: its LISTEN connection, and its lock.
pub const LISTEN: usize = 2;

/// What follows a source, and sweeps while it hears none.
pub fn edge(
    nonce: u32,
    hub: &Arc<Hub>,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
    shared: &Shared,
) -> Part {
    let turns = [Turns::default(), Turns::default()];
    let relay = RelayClient { shared: Arc::clone(shared), turns: turns[RELAY].clone(), nonce };
    let edge = Edge {
        relay: Arc::new(relay),
        store: Database::for_edges(Arc::clone(shared), turns[STORE].clone(), nonce),
        hub: Arc::clone(hub),
        looks: Arc::new(Looks::new()),
        health: Arc::clone(health),
        metrics: Arc::clone(metrics),
        interval: SWEEP_INTERVAL,
    };
    Part::new(turns.into(), async move { match edge.run().await {} })
}

/// What listens and sweeps for all edges while it has the lock.
pub fn source(nonce: u32, health: &Arc<Health>, metrics: &Arc<Metrics>, shared: &Shared) -> Part {
    let turns = [Turns::default(), Turns::default(), Turns::default()];
    let shared = || Arc::clone(shared);
    let relay = RelayClient { shared: shared(), turns: turns[RELAY].clone(), nonce };
    let quiet = shared().lock().scene.plan.quiet;
    let source = Source {
        relay: Arc::new(relay),
        leadership: Lock { shared: shared(), turns: turns[LISTEN].clone(), nonce },
        listen: Arc::new(Hearing { shared: shared(), turns: turns[LISTEN].clone(), nonce }),
        store: Database::for_sweeps(shared(), turns[STORE].clone(), nonce),
        health: Arc::clone(health),
        metrics: Arc::clone(metrics),
        load: Arc::new(Load::new(quiet, QUIET_ABOVE)),
        trust_payloads: true,
        swept: Arc::default(),
        interval: SWEEP_INTERVAL,
        quiet_interval: QUIET_INTERVAL,
        nonce: nonce.to_string(),
    };
    Part::new(turns.into(), async move { match source.run().await {} })
}
