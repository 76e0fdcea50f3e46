//! Gateways that do not listen to Postgres.
//!
//! One *source* at a time LISTENs and sweeps, and tells what it would tell its own streams
//! to a stream of NATS JetStream instead. *Edges* read it there and tell it to their streams:
//!
//! ```text
//! Postgres → listener, sweep → dispatch → teller → NATS → follower → hub → stream → socket
//! ```
//!
//! Truth stays in Postgres. What is told comes in batches, each of which names the one
//! before; an edge that finds one missing does what a gateway does that has lost its LISTEN
//! connection: its streams read the log. An edge that hears nothing sweeps for itself. What
//! comes twice, from two sources or from both ways, the streams' cursors leave out.

mod batch;
mod edge;
mod follower;
pub mod nats;
mod source;
mod teller;
mod transport;

pub use batch::{Batch, BatchError, Link, Told};
pub use edge::Edge;
pub use follower::{Follower, Heard, OtherEpoch};
pub use source::Source;
pub use teller::{Teller, TellerLimits};
pub use transport::{Message, Newest, Place, Reader, Relay, RelayError};
