#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bgeprep_fuzz::gzip(data));
