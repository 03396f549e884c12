//! A product of which only the greatest outputs of a token are kept, where those suffice: the output head of a model.
//!
//! A vocabulary has up to some hundred thousand tokens. Their logits would be written to memory and read again, megabytes
//! a pass, to find a few; here a task looks through its part while that is still in the cache. What is kept is said token
//! by token, so that one that needs all of its outputs costs the others nothing.

use std::cmp::Ordering;
use std::ops::Range;

use super::output::Output;
use super::packed::Matrix;
use super::product::multiply_groups;
use crate::activations::Activations;
use crate::disjoint::Disjoint;
use crate::kernels::Kernels;
use crate::simd::{GROUP, simd_fn};

/// A token of the vocabulary and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token: a row of the output head.
    pub token: u32,
    /// Its logit.
    pub logit: f32,
}

impl Candidate {
    /// What stands where there is no candidate: behind all others.
    pub const NONE: Self = Self { token: u32::MAX, logit: f32::NEG_INFINITY };

    /// More likely first; among equals the lower token. NaN has no rank.
    #[must_use]
    pub fn by_rank(&self, other: &Self) -> Ordering {
        other.logit.partial_cmp(&self.logit).unwrap_or(Ordering::Equal).then(self.token.cmp(&other.token))
    }

    /// Puts `self` into its place in `best`, which is sorted by rank, if it has one there; the last drops out.
    fn enter(self, best: &mut [Self]) {
        let place = best.partition_point(|other| other.by_rank(&self).is_le());
        if let [here, ..] = &mut best[place..] {
            let mut dropped = std::mem::replace(here, self);
            for after in &mut best[place + 1..] {
                dropped = std::mem::replace(after, dropped);
            }
        }
    }
}

/// What is kept of a token's outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    #[default]
    Row,
    /// The given number of greatest ones, sorted by rank.
    Best(usize),
}

/// Where what is kept goes.
#[derive(Debug)]
pub struct Kept<'a> {
    /// What is kept of each token's outputs.
    pub keep: &'a [Keep],
    /// The whole rows, one behind the other.
    pub rows: &'a mut [f32],
    /// The greatest outputs, those of one token behind those of the other: [`Candidate::NONE`] where there are fewer.
    pub best: &'a mut [Candidate],
}

/// Memory of [`multiply_kept`], reused between calls.
#[derive(Debug, Default)]
pub struct KeptScratch {
    /// For each thread the outputs of a task: `[token][row]`.
    values: Vec<f32>,
    /// For each thread the best that it has seen: `[token][rank]`.
    best: Vec<Candidate>,
}

/// Multiplies `x` (tokens by columns) with `matrix` and writes of each token's outputs what is to be kept to `kept`. `finish`
/// makes them final first: it is given some of a token's outputs and the rows of `matrix` that they belong to. They have
/// the bits of [`multiply`](super::product::multiply). A NaN is never among the greatest.
///
/// # Panics
/// If `kept` has not the sizes that it says, or those of `x` and `matrix` do not agree.
pub fn multiply_kept(
    kernels: &Kernels,
    x: &Activations,
    matrix: &Matrix,
    finish: impl Fn(Range<usize>, &mut [f32]) + Sync,
    scratch: &mut KeptScratch,
    kept: Kept<'_>,
) {
    let Kept { keep, rows: whole_rows, best } = kept;
    if keep.is_empty() {
        return;
    }
    assert_eq!(matrix.columns, x.columns(), "{matrix:?}: inputs");
    assert_eq!(keep.len(), x.tokens(), "{matrix:?}: tokens");
    let ranks = |keep: &Keep| if let Keep::Best(ranks) = *keep { ranks } else { 0 };
    let whole = keep.iter().filter(|&&keep| keep == Keep::Row).count();
    assert_eq!(whole_rows.len(), whole * matrix.rows, "{matrix:?}: whole rows");
    assert_eq!(best.len(), keep.iter().map(ranks).sum::<usize>(), "{matrix:?}: candidates");
    best.fill(Candidate::NONE);
    let task_groups = matrix.task_groups(x.tokens(), kernels.threads());
    let task_rows = task_groups.largest() * GROUP;
    let (values_len, best_len) = (x.tokens() * task_rows, best.len());
    scratch.values.resize(kernels.threads() * values_len, 0.0);
    scratch.best.clear();
    scratch.best.resize(kernels.threads() * best_len, Candidate::NONE);

    let (values, thread_best) = (Disjoint::new(&mut scratch.values), Disjoint::new(&mut scratch.best));
    let whole_rows = Disjoint::new(whole_rows);
    kernels.run(task_groups.tasks(), task_rows * matrix.columns * x.tokens(), |thread, task| {
        // SAFETY: a thread runs one task at a time, and has its own part.
        let values = unsafe { values.part(thread * values_len, values_len) };
        // SAFETY: as above.
        let mut best = unsafe { thread_best.part(thread * best_len, best_len) };
        let groups = task_groups.part(task);
        let rows = groups.start * GROUP..(groups.end * GROUP).min(matrix.rows);
        let part = Disjoint::new(values);
        // SAFETY: the part has no other output.
        multiply_groups(kernels, matrix, x, &mut unsafe { Output::new(&part, matrix, rows.clone(), groups) });
        let mut row = 0;
        for (outputs, keep) in values.chunks_exact_mut(rows.len()).zip(keep) {
            finish(rows.clone(), outputs);
            match *keep {
                Keep::Row => {
                    // SAFETY: of each token's outputs a task has its own.
                    let out = unsafe { whole_rows.part(row * matrix.rows + rows.start, rows.len()) };
                    out.copy_from_slice(outputs);
                    row += 1;
                }
                Keep::Best(ranks) => {
                    let (own, others) = best.split_at_mut(ranks);
                    offer(kernels.isa(), outputs, rows.start as u32, own);
                    best = others;
                }
            }
        }
    });

    for thread_best in scratch.best.chunks_exact(best_len.max(1)) {
        let mut start = 0;
        for ranks in keep.iter().map(ranks) {
            let places = start..start + ranks;
            for candidate in &thread_best[places.clone()] {
                candidate.enter(&mut best[places.clone()]);
            }
            start += ranks;
        }
    }
}

simd_fn! {
    /// Enters those of `logits`, which belong to the tokens from `first` on, that rank among `best`.
    fn offer(_simd, logits: &[f32], first: u32, best: &mut [Candidate]) {
        if best.is_empty() {
            return;
        }
        for (chunk, first) in logits.chunks(GROUP).zip((first..).step_by(GROUP)) {
            // Few chunks hold a candidate; counting them takes a few instructions without a branch. NaN is none.
            let least = best[best.len() - 1].logit;
            let candidates: u32 = chunk.iter().map(|&logit| u32::from(logit >= least)).sum();
            if candidates > 0 {
                for (&logit, token) in chunk.iter().zip(first..) {
                    if logit >= least {
                        Candidate { token, logit }.enter(best);
                    }
                }
            }
        }
    }
}
