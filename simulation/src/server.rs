//! The database and what every part of a history shares with it, behind one lock.

use std::{collections::BTreeMap, sync::Arc};

use notify_gateway::relay::Link;
use parking_lot::Mutex;

use crate::{
    ears::Ears,
    postgres::{Postgres, Session},
    relay::RelayServer,
    scene::Scene,
};

/// Shared by the history and the gateways' connections; never locked while a part
/// of a gateway is polled.
pub type Shared = Arc<Mutex<Server>>;

/// The server's side of everything.
pub struct Server {
    /// The database.
    pub postgres: Postgres,
    /// The dice, the plan, the trace.
    pub scene: Scene,
    /// What has been notified to each gateway, by its nonce.
    pub ears: BTreeMap<u32, Ears>,
    /// In which epoch each gateway believes the database to be.
    pub believed: BTreeMap<u32, u32>,
    /// What is between the gateways, in a history with a relay.
    pub relay: RelayServer,
    /// The gateways that are the source, and the sessions that have its lock.
    pub leads: Vec<(u32, Session)>,
    /// The batch that each gateway's edge has read last.
    pub heard: BTreeMap<u32, Link>,
}

impl Server {
    /// The server ends, and with it what it has not sent.
    pub fn hang_up(&mut self) {
        for ears in self.ears.values_mut() {
            ears.lose(&self.postgres, self.scene.clock);
        }
    }
}
