//! The safeguards, each of which can be taken out: a harness that finds nothing
//! then would find nothing ever.
//!
//! None of these is a switch of the gateway: its database lies to it, or what it
//! says is tampered with on the way.

use clap::ValueEnum;

/// A safeguard to go without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    /// The watermark moves although nothing was written that would keep a crash
    /// from taking its transaction numbers back.
    Durability,
    /// Nobody looks for rows that no notification brought.
    Sweep,
    /// The sweep leaves out what was committed while LISTEN was down.
    Gap,
    /// Snapshots lose their list of running transactions.
    Xip,
    /// In a replay a transaction counts as had from its first row on.
    WholeTransaction,
    /// A stream starts its queue anew after its page was read, not before.
    Registration,
    /// A row that one stream of a user was given counts as given to all.
    SharedRecents,
    /// The snapshot that becomes the watermark is taken after the sweep.
    WatermarkFirst,
    /// A cursor is taken over into another epoch as it is.
    EpochClamp,
    /// Only a promotion begins an epoch, not every life of the server.
    EpochLife,
    /// A page is read by a horizon of another epoch than the table's.
    HorizonEpoch,
    /// A replay tells whatever its rows say, in the order of the transactions' numbers.
    Newer,
    /// A sweep lists rows in the order of the transactions' numbers.
    SweepOrder,
    /// Streams are opened before the gateway has been ready.
    Readiness,
    /// Each batch seems to follow the one that an edge has read last.
    RelayChain,
    /// A source's batch claims what is not told yet.
    RelayWatermark,
    /// A source goes on from a newer watermark than the last one in the stream.
    RelayBeginning,
    /// No batch says that rows are to be read from the log.
    RelayLost,
    /// No batch says that an epoch has begun.
    RelayEpoch,
    /// An edge that hears no source does not sweep for itself.
    Fallback,
}

impl Sabotage {
    /// Whether only gateways with a relay have the safeguard.
    pub fn is_of_relay(self) -> bool {
        use Sabotage::{
            Fallback, RelayBeginning, RelayChain, RelayEpoch, RelayLost, RelayWatermark,
        };
        matches!(
            self,
            RelayChain | RelayWatermark | RelayBeginning | RelayLost | RelayEpoch | Fallback
        )
    }

    /// All of them.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }
}
