//! Who is the source: a session that holds a lock of the simulated Postgres. One gateway at a
//! time has it, unless the dice want two to believe that for a while.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use notify_gateway::listen::{Lead, Leadership, ListenError};

use crate::{
    database::clock,
    postgres::Session,
    server::{Server, Shared},
    turns::Turns,
};

/// How often the lock is asked for.
const INTERVAL: Duration = Duration::from_millis(750);

/// How a gateway asks for the lock.
pub struct Lock {
    /// Whom.
    pub shared: Shared,
    /// When it goes on.
    pub turns: Turns,
    /// Whose.
    pub nonce: u32,
}

/// A session that has it.
pub struct Held {
    shared: Shared,
    turns: Turns,
    session: Session,
}

impl Leadership for Lock {
    type Lead = Held;

    async fn acquire(&self, stand_by: impl Fn() + Send) -> Result<Held, ListenError> {
        self.turns.turn().await;
        let session = {
            let Server { postgres, scene, .. } = &*self.shared.lock();
            postgres.connect(Arc::default(), clock(scene.clock))
        };
        let session = session.ok_or(ListenError::Closed)?;
        self.turns.connection(session.is_cut());
        let held = Held { shared: Arc::clone(&self.shared), turns: self.turns.clone(), session };
        loop {
            self.turns.turn().await;
            if self.try_lock(&held.session)? {
                return Ok(held);
            }
            stand_by();
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl Lock {
    fn try_lock(&self, session: &Session) -> Result<bool, ListenError> {
        let Server { postgres, scene, leads, .. } = &mut *self.shared.lock();
        if !postgres.answers(session) {
            return Err(ListenError::Closed);
        }
        // The lock goes with its session. Of one that was cut off the gateway learns later.
        leads.retain(|(_, held)| postgres.answers(held));
        let doubles = scene.plan.relay.map_or(0, |plan| plan.double_leads);
        let is_free = leads.is_empty() || scene.chance(doubles);
        if is_free {
            scene.tell(|| format!("gateway {}: is the source beside {}", self.nonce, leads.len()));
            leads.push((self.nonce, session.clone()));
        }
        Ok(is_free)
    }
}

impl Lead for Held {
    async fn lost(&mut self) -> ListenError {
        poll_fn(|_| {
            let lives = self.shared.lock().postgres.answers(&self.session);
            if lives { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        // It is noticed late.
        self.turns.turn().await;
        ListenError::Closed
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let is_cut = self.session.is_cut();
        self.turns.forget(is_cut);
        self.shared.lock().leads.retain(|(_, held)| !Arc::ptr_eq(held.is_cut(), is_cut));
    }
}
