//! The output head: logits of the nodes that were asked for.

use super::backend::{Backend, Step};
use super::placements::Placements;
use super::residual::Residual;
use crate::architecture::{Architecture, Input};
use crate::language_model::SequenceStep;
use crate::logits::Logits;
use crate::weights::Weights;

/// A pass behind its last layer.
pub(super) struct OutputHead<'a> {
    pub(super) architecture: &'a Architecture,
    pub(super) weights: &'a Weights,
}

impl<'a> OutputHead<'a> {
    /// Normalises the asked nodes' rows, multiplies them with the output head, and keeps what is to be kept.
    pub(super) fn run<B: Backend>(
        &self,
        backend: &mut B,
        batch: &[Step<'_, B>],
        placements: &Placements,
        residual: &mut Residual<'a, B>,
        input: &mut B::Input,
        logits: &mut Logits,
    ) {
        let Self { architecture, weights } = *self;
        let kept = logits.reset(weights.head().rows(), batch.iter().flat_map(SequenceStep::kept));
        if kept.keep.is_empty() {
            return;
        }
        residual.keep_nodes(backend, &placements.asked);
        residual.merge(backend, input);
        let codes = weights.head().weight_type().codes();
        residual.read(backend, Input::Normalised, Some(&weights.output_norm), codes, input);
        backend.head(architecture, weights, input, kept);
    }
}
