//! The part of near dedup that rides along with reading: each text is sketched while it is at hand.

use super::layout::BucketLayout;
use super::read_stage::Outputs;
use crate::Result;
use crate::clean::{CleanPair, CleanText};
use crate::config::{DedupRules, PrepPlan};
use crate::near::minhash::{Banding, Sketcher};
use crate::near::sample::{SampleRule, encode};
use crate::near::shingle::{Rule, Shingler};
use crate::near::sketch::SketchBlock;
use crate::pair::{SetKind, Task};

/// One thread's sketching tools.
#[derive(Debug)]
pub(super) struct Sketching {
    shingler: Shingler,
    sketcher: Sketcher,
    sample: SampleRule,
    blocks: [SketchBlock; 2],
}

/// The banding that a plan's rules ask for.
pub(super) fn banding(rules: &DedupRules) -> Banding {
    Banding::for_threshold(rules.near_threshold, rules.permutations)
}

impl Sketching {
    pub(super) fn new(plan: &PrepPlan, layout: &BucketLayout) -> Self {
        let banding = banding(&plan.dedup);
        Self {
            shingler: Shingler::default(),
            sketcher: Sketcher::new(banding),
            sample: SampleRule::for_bytes(layout.text_bytes),
            blocks: Rule::ALL.map(|_| SketchBlock::new(banding.bands)),
        }
    }

    /// Sketches all texts of a pair.
    pub(super) fn pair(&mut self, pair: &CleanPair, task: Task, outputs: &Outputs) -> Result<()> {
        if pair.kind == SetKind::Pairs {
            self.text(&pair.query, Rule::Query, outputs)?;
        }
        let rule = Rule::of_passages(task);
        pair.pos.iter().chain(&pair.neg).try_for_each(|text| self.text(text, rule, outputs))
    }

    fn text(&mut self, text: &CleanText, rule: Rule, outputs: &Outputs) -> Result<()> {
        let shingles = self.shingler.shingles(&text.normal, rule);
        if shingles.is_empty() {
            return Ok(());
        }
        let key = text.identity.key;
        self.blocks[rule as usize].push(key, self.sketcher.bands(shingles));
        if let Some(rank) = self.sample.rank(shingles) {
            outputs.sample.append_with(rule as usize, |bytes| encode(rank, key, &text.normal, bytes))?;
        }
        Ok(())
    }

    /// Hands over the sketches of a chunk; how many there are, by space.
    pub(super) fn spill(&mut self, outputs: &Outputs) -> Result<[u64; 2]> {
        let counts = [self.blocks[0].len() as u64, self.blocks[1].len() as u64];
        for (space, block) in self.blocks.iter_mut().enumerate() {
            if !block.is_empty() {
                outputs.sketches.append_with(space, |bytes| block.drain_into(bytes))?;
            }
        }
        Ok(counts)
    }
}
