//! Step 2 of near dedup: which texts hang together, and the partition that each is verified in.

use std::fs::File;
use std::io::{BufWriter, IntoInnerError, Write};
use std::path::Path;

use arrow_buffer::ScalarBuffer;

use super::near_stage::{PAIRS, both};
use super::read_stage::SKETCHES;
use super::stage::Stage;
use super::work::write_whole;
use crate::near::candidates::CandidatePair;
use crate::near::components::{Components, KeyIndex};
use crate::shard::map::map;
use crate::shuffle::spill::{Spill, load, path, remove_if_there, size};
use crate::{Error, Result};

/// Spill families of both spaces.
pub(super) const COMPONENT_PAIRS: [&str; 2] = ["query-component-pairs", "passage-component-pairs"];

/// Bytes that a text with candidates takes while components are found.
const NODE_BYTES: u64 = 12;

/// The texts of a space that have a candidate, and the partition of each.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) keys: ScalarBuffer<u64>,
    pub(super) homes: ScalarBuffer<u32>,
    pub(super) index: KeyIndex,
}

/// Names of the files of a space's nodes.
pub(super) const NODES: [&str; 2] = ["nodes", "homes"];

impl Nodes {
    /// Maps the nodes of a space: whoever works on one machine shares the memory they take.
    pub(super) fn open(folder: &Path, space: usize) -> Result<Self> {
        let [keys, homes] = NODES.map(|name| {
            let file = path(folder, name, space);
            map(&file, size(&file)?)
        });
        let (keys, homes) = (ScalarBuffer::from(keys?), ScalarBuffer::from(homes?));
        Ok(Self { index: KeyIndex::new(&keys), keys, homes })
    }
}

/// Finds the components of both spaces, or what an earlier run found.
pub(super) fn find_components(stage: &Stage<'_>, folder: &Path) -> Result<[Nodes; 2]> {
    stage.work.once("near-components", || (0..2).try_for_each(|space| write_components(stage, folder, space)))?;
    // Nobody asks for sketches and unsorted pairs any more.
    for (space, pairs) in PAIRS.into_iter().enumerate() {
        remove_if_there(&path(stage.read, SKETCHES, space))?;
        for partition in 0..stage.layout.partitions {
            remove_if_there(&path(folder, pairs, partition))?;
        }
    }
    both(|space| Nodes::open(folder, space))
}

/// Finds the components of a space; its nodes and the pairs of each partition are files then.
pub(super) fn write_components(stage: &Stage<'_>, folder: &Path, space: usize) -> Result<()> {
    let (keys, homes) = components(stage, folder, space)?;
    let [nodes_path, homes_path] = NODES.map(|name| path(folder, name, space));
    write_columns(&nodes_path, keys.iter().map(|key| key.to_le_bytes()))?;
    write_columns(&homes_path, homes.iter().map(|home| home.to_le_bytes()))
}

/// Writes fixed-width values one after the other; what is held is a buffer.
fn write_columns<const BYTES: usize>(file: &Path, values: impl Iterator<Item = [u8; BYTES]>) -> Result<()> {
    let mut to = BufWriter::with_capacity(1 << 18, File::create(file).map_err(Error::io(file, "write"))?);
    for value in values {
        to.write_all(&value).map_err(Error::io(file, "write"))?;
    }
    to.into_inner().map_err(IntoInnerError::into_error).and_then(|to| to.sync_all()).map_err(Error::io(file, "write"))
}

fn components(stage: &Stage<'_>, folder: &Path, space: usize) -> Result<(Vec<u64>, Vec<u32>)> {
    let partitions = stage.layout.partitions;
    let pairs_of = |partition: usize| {
        stage.progress.check()?;
        Ok::<_, Error>(CandidatePair::decode_all(&load(&path(folder, PAIRS[space], partition))?))
    };
    let (mut keys, mut sorted, mut bytes) = (Vec::<u64>::new(), 0, Vec::new());
    for partition in 0..partitions {
        let pairs = pairs_of(partition)?;
        keys.extend(pairs.iter().flat_map(|pair| [pair.left, pair.right]));
        // Only when there are as many new keys as old ones, or the sorting would be quadratic in the partitions.
        if keys.len() > 2 * sorted || partition + 1 == partitions {
            keys.sort_unstable();
            keys.dedup();
            sorted = keys.len();
        }
        bytes.clear();
        for pair in &pairs {
            pair.encode(&mut bytes);
        }
        write_whole(&path(folder, PAIRS[space], partition), &bytes)?;
    }
    if keys.len() > u32::MAX as usize {
        let message = format!(
            "{} texts have a candidate for a near duplicate, at most {} can be told apart; hint: --dedup exact, \
             or several sets",
            keys.len(),
            u32::MAX
        );
        return Err(Error::config("dedup.mode", message));
    }
    if keys.len() as u64 * NODE_BYTES > stage.memory {
        let needed = (keys.len() as u64 * NODE_BYTES * 4 / 3) >> 20;
        let message = format!(
            "{} texts have a candidate for a near duplicate, for which at least {needed} MiB are needed; \
             hint: --memory {}MiB, the same command goes on from here",
            keys.len(),
            needed + 64
        );
        return Err(Error::config("memory", message));
    }
    let index = KeyIndex::new(&keys);
    let place = |key: u64| index.lower_bound(&keys, key) as u32;
    let mut components = Components::new(keys.len());
    for partition in 0..partitions {
        for pair in pairs_of(partition)? {
            components.unite(place(pair.left), place(pair.right));
        }
    }
    let homes: Vec<u32> =
        (0..keys.len() as u32).map(|at| (keys[components.find(at) as usize] % partitions as u64) as u32).collect();
    drop(components);
    let spill = Spill::create(folder, COMPONENT_PAIRS[space], partitions, stage.memory / 16)?;
    for partition in 0..partitions {
        for pair in pairs_of(partition)? {
            let places = [place(pair.left), place(pair.right)];
            bytes.clear();
            bytes.extend(places.iter().flat_map(|place| place.to_le_bytes()));
            spill.append(homes[places[0] as usize] as usize, &bytes)?;
        }
    }
    spill.finish()?;
    Ok((keys, homes))
}
