//! Logits of nodes.

use std::ops::Range;

use lookahead_kernels::{Activations, Kept, KeptScratch, Kernels, add, multiply_kept, scale, soft_cap};

use crate::architecture::Architecture;
use crate::weights::Weights;

/// Multiplies `input` with the output head, makes logits of it, and keeps what is to be kept.
pub(super) fn multiply_head(
    kernels: &Kernels,
    architecture: &Architecture,
    weights: &Weights,
    input: &Activations,
    scratch: &mut KeptScratch,
    kept: Kept<'_>,
) {
    let isa = kernels.isa();
    let bias = weights.output.as_ref().and_then(|output| output.bias.as_ref());
    let finish = |rows: Range<usize>, logits: &mut [f32]| {
        if let Some(bias) = bias {
            add(isa, logits, &bias[rows]);
        }
        if architecture.logit_scale != 1.0 {
            scale(isa, logits, architecture.logit_scale);
        }
        if let Some(cap) = architecture.logit_cap {
            soft_cap(isa, logits, cap);
        }
    };
    multiply_kept(kernels, input, weights.head(), finish, scratch, kept);
}
