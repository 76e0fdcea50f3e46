//! How long each case of microbench/ takes: `make bench-micro`. How many instructions each takes,
//! `make instructions` counts: those do not depend on what else the machine does.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use notify_microbench::{NAMES, OPERATIONS};

/// The times that are shown are those of `OPERATIONS`; the rates are those of one.
fn micro(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("micro");
    group.throughput(Throughput::Elements(OPERATIONS.into()));
    for name in NAMES {
        let mut case = None;
        group.bench_function(name, |bencher| {
            // Only those that are asked for are made: one has 100,000 streams.
            let case = case.get_or_insert_with(|| notify_microbench::case(name));
            bencher.iter(|| black_box(&mut *case).run());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots();
    targets = micro
}
criterion_main!(benches);
