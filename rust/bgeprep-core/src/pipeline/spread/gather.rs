//! Segments of many bundles, put together as the spill files that a run on one machine would have.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::bundle::Bundle;
use super::place::Place;
use crate::pipeline::read_stage::ROWS;
use crate::shuffle::packed::Packed;
use crate::shuffle::spill::path;
use crate::{Error, Result};

/// Files that are open at once while segments are gathered.
const AT_ONCE: usize = 256;

/// The bundles of a stage.
#[derive(Debug)]
pub struct Bundles(Vec<Bundle>);

impl Bundles {
    /// Opens bundles.
    pub fn open(place: &Place, names: &[String]) -> Result<Self> {
        Ok(Self(names.iter().map(|name| Bundle::open(place, name)).collect::<Result<_>>()?))
    }

    /// Each bundle.
    pub fn iter(&self) -> impl Iterator<Item = &Bundle> {
        self.0.iter()
    }

    /// The rows of a range of buckets: pieces of the bundles where they are files that this machine sees; out of a store
    /// they are put together as spill files in `folder`.
    pub fn rows(&self, range: Range<usize>, folder: &Path) -> Result<BTreeMap<usize, Packed>> {
        let files: Option<Vec<_>> = self.0.iter().map(Bundle::file).collect();
        let Some(files) = files else {
            self.gather(ROWS, range, folder)?;
            return Ok(BTreeMap::new());
        };
        let none = |bucket| (bucket, Packed::new(path(folder, ROWS, bucket)));
        let mut rows: BTreeMap<usize, Packed> = range.clone().map(none).collect();
        for (bundle, file) in self.0.iter().zip(files) {
            let (mut at, ends) = bundle.bounds(ROWS, range.clone())?;
            for (packed, end) in rows.values_mut().zip(ends) {
                if end > at {
                    packed.push(file, at..end);
                }
                at = end;
            }
        }
        Ok(rows)
    }

    /// Puts the segments of a range together, as the files of a spill family in `folder`.
    pub fn gather(&self, family: &str, range: Range<usize>, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        for start in range.clone().step_by(AT_ONCE) {
            let group = start..range.end.min(start + AT_ONCE);
            let mut files: Vec<Option<File>> = group.clone().map(|_| None).collect();
            for bundle in &self.0 {
                bundle.read(family, group.clone(), &mut |index, bytes| {
                    let name = path(folder, family, index);
                    let slot = &mut files[index - group.start];
                    if slot.is_none() {
                        let file = File::options().create(true).append(true).open(&name);
                        *slot = Some(file.map_err(Error::io(&name, "write"))?);
                    }
                    let Some(file) = slot else { return Ok(()) };
                    file.write_all(bytes).map_err(Error::io(&name, "write"))
                })?;
            }
        }
        Ok(())
    }

    /// Puts a segment of one family and a range of another side by side, bundle by bundle, behind the number of 8-byte
    /// values in the first: blocks of a sketch file.
    pub fn gather_blocks(
        &self,
        (keys, space): (&str, usize),
        (columns, range): (&str, Range<usize>),
        to: &Path,
    ) -> Result<()> {
        let mut file = BufWriter::with_capacity(1 << 18, File::create(to).map_err(Error::io(to, "write"))?);
        for bundle in &self.0 {
            let count = bundle.bytes(keys, space)? / 8;
            let count = u32::try_from(count).map_err(|_| Error::Internal("a task has too many texts".to_owned()))?;
            let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(Error::io(to, "write"));
            if count > 0 {
                write(&count.to_le_bytes())?;
                bundle.read(keys, space..space + 1, &mut |_, bytes| write(bytes))?;
                bundle.read(columns, range.clone(), &mut |_, bytes| write(bytes))?;
            }
        }
        file.flush().map_err(Error::io(to, "write"))
    }

    /// Puts every segment of a family into a file of its own in `folder`, in which the names begin with `front`.
    pub fn scatter(&self, family: &str, folder: &Path, front: &str) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        for (number, bundle) in self.0.iter().enumerate() {
            let mut open: Option<(usize, PathBuf, File)> = None;
            bundle.read(family, 0..bundle.count(family), &mut |index, bytes| {
                if open.as_ref().is_none_or(|(at, ..)| *at != index) {
                    let name = folder.join(format!("{front}-{number:06}-{index:06}"));
                    let file = File::create(&name).map_err(Error::io(&name, "write"))?;
                    open = Some((index, name, file));
                }
                let Some((_, name, file)) = &mut open else { return Ok(()) };
                file.write_all(bytes).map_err(Error::io(name.as_path(), "write"))
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::tests::{bundle, place, segment};
    use super::*;
    use crate::shuffle::spill::load;

    #[test]
    fn any_range_of_segments_comes_back_from_all_bundles() {
        let folder = tempfile::tempdir().expect("folder");
        let place = place(folder.path());
        let names: Vec<String> = (0..3).map(|number| bundle(&place, number)).collect();
        assert_eq!(place.names().expect("names"), names);
        let bundles = Bundles::open(&place, &names).expect("open");
        assert_eq!(bundles.0[2].report::<Vec<usize>>().expect("report"), vec![2; 1000]);
        for (turn, range) in [0..300, 0..1, 4..7, 299..300, 300..310, 7..7].into_iter().enumerate() {
            let to = folder.path().join(format!("to-{turn}"));
            bundles.gather("rows", range.clone(), &to).expect("gather");
            for index in 0..310 {
                let found = load(&path(&to, "rows", index)).expect("load");
                let within = range.contains(&index) && index < 300;
                let expected =
                    if within { (0..3).flat_map(|number| segment(number, index)).collect() } else { Vec::new() };
                assert!(found == expected, "{range:?} {index}: {} bytes", found.len());
            }
        }
        let apart = folder.path().join("apart");
        bundles.scatter("keys", &apart, "run").expect("scatter");
        assert_eq!(fs::read(apart.join("run-000001-000005")).expect("file"), segment(1, 5));
    }
}
