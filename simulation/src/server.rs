//! The database and what every part of a history shares with it, behind one lock.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use crate::{ears::Ears, postgres::Postgres, scene::Scene};

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
}

impl Server {
    /// The server ends, and with it what it has not sent.
    pub fn hang_up(&mut self) {
        for ears in self.ears.values_mut() {
            ears.lose(&self.postgres, self.scene.clock);
        }
    }
}
