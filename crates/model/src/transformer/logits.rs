//! The output head: logits of the nodes that were asked for.

use std::ops::Range;

use lookahead_kernels::{Activations, KeptScratch, Kernels, add, multiply_kept, scale, soft_cap};

use super::placements::Placements;
use super::residual::Residual;
use crate::architecture::{Architecture, Input};
use crate::kv_cache::KvCache;
use crate::language_model::SequenceStep;
use crate::logits::Logits;
use crate::weights::Weights;

/// A pass behind its last layer.
pub(super) struct OutputHead<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) architecture: &'a Architecture,
    pub(super) weights: &'a Weights,
}

impl<'a> OutputHead<'a> {
    /// Normalises the asked nodes' rows, multiplies them with the output head, and keeps what is to be kept.
    pub(super) fn run(
        &self,
        batch: &[SequenceStep<'_, KvCache>],
        placements: &Placements,
        residual: &mut Residual<'a>,
        input: &mut Activations,
        scratch: &mut KeptScratch,
        logits: &mut Logits,
    ) {
        let Self { kernels, architecture, weights } = *self;
        let (head, isa) = (weights.head(), kernels.isa());
        let kept = logits.reset(head.rows(), batch.iter().flat_map(SequenceStep::kept));
        if kept.keep.is_empty() {
            return;
        }
        let asked = batch.iter().zip(&placements.sequences).map(|(step, nodes)| {
            let asked = step.asked();
            nodes.start + asked.start..nodes.start + asked.end
        });
        residual.keep_nodes(asked);
        residual.merge(input);
        let codes = head.weight_type().codes();
        residual.read(Input::Normalised, Some(&weights.output_norm), codes, input);
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
        multiply_kept(kernels, input, head, finish, scratch, kept);
    }
}
