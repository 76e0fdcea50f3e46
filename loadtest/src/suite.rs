//! Every mode once, in an order that makes each number meaningful: memory is
//! weighed first, on a server that has not been used yet.

use std::time::Duration;

use crate::{
    options::{Common, Rows, SaturationOptions},
    scenario::Scenario,
    schedule::Arrivals,
};

/// What each mode is given at the most, at scale 1: all of them together, with
/// opening and closing, stay under two minutes.
pub(crate) fn scenarios(common: &Common, scale: f64) -> Vec<Scenario> {
    let scale = scale.clamp(0.01, 1000.0);
    let seconds = |seconds: f64| Duration::from_secs_f64((seconds * scale).max(0.5));
    // Two rows of a user in one transaction: their order is looked at, too.
    let rows = |rate, lasts| Rows {
        rate,
        duration: seconds(lasts),
        rows_per_transaction: 2,
        rows_per_user: 2,
        arrivals: Arrivals::Constant,
    };
    let count = |count: f64| {
        let scaled = Duration::from_secs_f64((count * scale).max(1.0)).as_secs();
        usize::try_from(scaled).unwrap_or(usize::MAX)
    };
    let rounds = u32::try_from(count(3.0)).unwrap_or(3);
    let saturation = SaturationOptions {
        common: common.clone(),
        rows: count(20_000.0),
        rows_per_transaction: 10,
        rows_per_user: 1,
    };
    vec![
        Scenario::idle(common, seconds(6.0), 4),
        Scenario::rush(common),
        Scenario::steady(common, &rows(200.0, 8.0)),
        Scenario::broadcast(common, rounds, Duration::from_millis(1500)),
        Scenario::tabs(common, &Rows { rows_per_transaction: 1, ..rows(20.0, 4.0) }),
        Scenario::saturation(&saturation),
        Scenario::storm(common, &rows(200.0, 5.0), 1, Duration::ZERO),
        Scenario::churn(common, count(2_000.0), 500.0, 50.0),
        Scenario {
            padding: 2_000,
            ..Scenario::slow_readers(common, &rows(400.0, 5.0), common.streams.div_ceil(20))
        },
        Scenario::hostile(common, &rows(100.0, 4.0), 100, 100),
    ]
}
