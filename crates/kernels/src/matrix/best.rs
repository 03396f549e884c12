//! A product of which only the greatest outputs of each token are kept: the output head of a model that decodes greedily.
//!
//! A vocabulary has up to some hundred thousand tokens. Their logits would be written to memory and read again, megabytes
//! a pass, to find a few; here a task looks through its part while that is still in the cache.

use std::cmp::Ordering;
use std::ops::Range;

use super::{Matrix, Output, multiply_groups};
use crate::disjoint::Disjoint;
use crate::simd::{GROUP, simd_fn};
use crate::{Activations, Kernels};

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

/// Memory of [`multiply_best`], reused between calls.
#[derive(Debug, Default)]
pub struct BestScratch {
    /// For each thread the outputs of a task: `[token][row]`.
    values: Vec<f32>,
    /// For each thread the best that it has seen: `[token][rank]`.
    best: Vec<Candidate>,
}

/// Multiplies `x` (tokens by columns) with `matrix` and writes the greatest outputs of each token to `best`,
/// `[token][rank]`: as many as there is room for, [`Candidate::NONE`] where there are fewer. `finish` makes them final
/// before they are compared: it is given some of a token's outputs and the rows of `matrix` that they belong to. They have
/// the bits of [`multiply`](super::multiply). A NaN is never among them.
///
/// # Panics
/// If `best` is no whole number of candidates a token or the sizes of `x` and `matrix` do not agree.
pub fn multiply_best(
    kernels: &Kernels,
    x: &Activations,
    matrix: &Matrix,
    finish: impl Fn(Range<usize>, &mut [f32]) + Sync,
    scratch: &mut BestScratch,
    best: &mut [Candidate],
) {
    best.fill(Candidate::NONE);
    if best.is_empty() {
        return;
    }
    assert_eq!(matrix.columns, x.columns(), "{matrix:?}: inputs");
    assert_eq!(best.len() % x.tokens(), 0, "{matrix:?}: candidates for {} tokens", x.tokens());
    let task_groups = matrix.task_groups(x.tokens());
    let task_rows = task_groups * GROUP;
    let (values_len, best_len) = (x.tokens() * task_rows, best.len());
    scratch.values.resize(kernels.threads() * values_len, 0.0);
    scratch.best.clear();
    scratch.best.resize(kernels.threads() * best_len, Candidate::NONE);

    let (values, thread_best) = (Disjoint::new(&mut scratch.values), Disjoint::new(&mut scratch.best));
    let tasks = matrix.groups().div_ceil(task_groups);
    kernels.run(tasks, task_rows * matrix.columns * x.tokens(), |thread, task| {
        // SAFETY: a thread runs one task at a time, and has its own part.
        let values = unsafe { values.part(thread * values_len, values_len) };
        // SAFETY: as above.
        let best = unsafe { thread_best.part(thread * best_len, best_len) };
        let groups = task * task_groups..((task + 1) * task_groups).min(matrix.groups());
        let rows = task * task_rows..((task + 1) * task_rows).min(matrix.rows);
        let part = Disjoint::new(values);
        // SAFETY: the part has no other output.
        multiply_groups(kernels, matrix, x, &mut unsafe { Output::new(&part, rows.clone(), groups) });
        let bests = best.chunks_exact_mut(best_len / x.tokens());
        for (logits, best) in values.chunks_exact_mut(rows.len()).zip(bests) {
            finish(rows.clone(), logits);
            offer(kernels.isa(), logits, rows.start as u32, best);
        }
    });

    let ranks = best_len / x.tokens();
    for thread_best in scratch.best.chunks_exact(best_len) {
        for (best, found) in best.chunks_exact_mut(ranks).zip(thread_best.chunks_exact(ranks)) {
            for &candidate in found {
                candidate.enter(best);
            }
        }
    }
}

simd_fn! {
    /// Enters those of `logits`, which belong to the tokens from `first` on, that rank among `best`.
    fn offer(_simd, logits: &[f32], first: u32, best: &mut [Candidate]) {
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
