use fs_err as fs;

use serde_json::json;

use super::super::writer::tests::{part_of, row};
use super::*;

fn manifest(folder: &Path) -> Manifest {
    let part = part_of(&folder.join("faq/part-00000.arrow"), &[row("a", 1), row("b", 2)]);
    let source = SourceEntry {
        name: "faq".to_owned(),
        task: "retrieval".to_owned(),
        weight: Some(0.1),
        rows: 2,
        rows_read: 5,
        dropped: [("duplicate".to_owned(), 1), ("merged".to_owned(), 2)].into(),
        files: vec![part],
        ..SourceEntry::default()
    };
    Manifest::new(json!({"clean": {"min_chars": 2}}), 42, vec![source], Vec::new())
}

#[test]
fn a_manifest_reads_back_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let written = manifest(folder.path());
    let hash = written.write(folder.path()).unwrap();
    let read = Manifest::read(folder.path()).unwrap();
    assert_eq!((read.merged, read.rows_read, read.rows_kept), (2, 5, 2));
    assert_eq!(read, Manifest { hash, ..written });
}

#[test]
fn every_flipped_bit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    manifest(folder.path()).write(folder.path()).unwrap();
    let path = folder.path().join(MANIFEST);
    let whole = fs::read(&path).unwrap();
    assert!(Manifest::parse(&whole).is_ok());
    for place in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << bit;
            assert!(Manifest::parse(&damaged).is_err(), "bit {bit} of byte {place}");
        }
    }
    for length in 0..whole.len() {
        assert!(Manifest::parse(&whole[..length]).is_err(), "cut to {length} bytes");
    }
}

#[test]
fn paths_that_leave_the_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in
        ["../faq/a.arrow", "/etc/passwd", "faq/../../a.arrow", "faq/..", "other/a.arrow", "faq/a/b.arrow", "a.arrow"]
    {
        let mut forged = manifest(folder.path());
        path.clone_into(&mut forged.sources[0].files[0].path);
        let (text, _) = forged.render().unwrap();
        fs::write(folder.path().join(MANIFEST), text).unwrap();
        let message = Manifest::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("is refused"), "{path}: {message}");
    }
}

#[test]
fn counts_that_do_not_balance_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = manifest(folder.path());
    let refused = |change: fn(&mut Manifest)| {
        let mut forged = good.clone();
        change(&mut forged);
        assert!(forged.write(folder.path()).is_err());
        Manifest::parse(forged.render().unwrap().0.as_bytes()).unwrap_err()
    };
    assert!(refused(|it| it.sources[0].rows_read = 4).contains("kept + dropped"));
    assert!(refused(|it| it.rows_kept = 3).contains("rows_kept"));
    assert!(refused(|it| it.sources[0].files[0].rows = 3).contains("of its batches"));
    assert!(refused(|it| it.sources[0].files[0].blocks[0].length = u64::MAX).contains("does not fit"));
    assert!(refused(|it| it.sources[0].task = "search".to_owned()).contains("task"));
    assert!(refused(|it| it.sources.push(it.sources[0].clone())).contains("twice"));
}

#[test]
fn another_version_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = Manifest { format_version: 9, ..manifest(folder.path()) }.render().unwrap().0;
    assert!(Manifest::parse(text.as_bytes()).unwrap_err().contains("version 9"));
    assert!(Manifest::parse(b"{\"format_version\": 1}").unwrap_err().contains("version 1"));
}

#[test]
fn an_absent_set_is_told_apart_from_an_absent_folder() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Manifest::read(folder.path()).unwrap_err().to_string().contains("no complete shard set"));
    assert!(Manifest::read(&folder.path().join("x")).unwrap_err().to_string().contains("no such folder"));
}
