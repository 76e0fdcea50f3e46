//! How many instructions each case takes: run by `make instructions`.

#![allow(missing_docs, unreachable_pub, reason = "what the macros make")]

use gungraun::{
    Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use notify_microbench::{Case, case};

#[library_benchmark(setup = case)]
#[bench::decode_event("decode/event")]
#[bench::decode_ring("decode/ring")]
#[bench::route_10("route/10 users")]
#[bench::route_1000("route/1,000 users")]
#[bench::route_100000("route/100,000 users")]
#[bench::route_streams("route/1,000 streams of one user")]
#[bench::encode("encode")]
#[bench::heartbeat("heartbeat")]
#[bench::cursor_encode_0("cursor/encode/0 recents")]
#[bench::cursor_encode_4("cursor/encode/4 recents")]
#[bench::cursor_encode_100("cursor/encode/100 recents")]
#[bench::cursor_parse_0("cursor/parse/0 recents")]
#[bench::cursor_parse_4("cursor/parse/4 recents")]
#[bench::cursor_parse_100("cursor/parse/100 recents")]
#[bench::cursor_record_0("cursor/record and rebase/0 recents")]
#[bench::cursor_record_4("cursor/record and rebase/4 recents")]
#[bench::cursor_record_100("cursor/record and rebase/100 recents")]
fn run(mut case: Case) -> Case {
    case.run();
    // Returned, so that what it takes to free it does not count.
    case
}

library_benchmark_group!(name = cases, benchmarks = run);

main!(
    // Instructions alone: what a cache would do is a guess.
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = cases
);
