#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| notify_gateway::fuzzing::claim(bytes));
