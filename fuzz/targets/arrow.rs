#![no_main]

// The reader turns panics of the arrow crates into errors; those that get past it still end the run.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |data: &[u8]| bgeprep_fuzz::arrow(data));
