//! The committed corpus of the fuzz targets, through the same checks: what they hold stays true, and they compile.

use std::path::{Path, PathBuf};

#[path = "../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "public for the fuzz targets, which are another crate")]
mod checks;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = fs_err::read_dir(&folder).expect("the committed corpus");
    let mut seeds: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    seeds.sort();
    assert!(seeds.len() > 10, "{}", folder.display());
    for seed in seeds {
        let bytes = fs_err::read(&seed).expect("a seed");
        let result = std::panic::catch_unwind(|| check(&bytes));
        assert!(result.is_ok(), "{}: see above", seed.display());
    }
}

#[test]
fn json() {
    replay("json", checks::json);
}

#[test]
fn gzip() {
    replay("gzip", checks::gzip);
}

#[test]
fn arrow() {
    replay("arrow", checks::arrow);
}
