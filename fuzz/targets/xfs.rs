#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mkqcow2_fuzz::disk("xfs", bytes));
