//! Blocks that are computed on the CPU only.

use lookahead_kernels::{Activations, Kernels};

use super::convolution::{ConvolutionBlock, ConvolutionBuffers};
use super::recurrence::{RecurrenceBlock, RecurrenceBuffers};
use super::scan::{ScanBlock, ScanBuffers};
use crate::architecture::Mixer;
use crate::kv_cache::KvCache;
use crate::language_model::SequenceStep;
use crate::transformer::backend::OtherBlock;
use crate::transformer::placements::Placements;
use crate::weights::MixerWeights;

/// Memory of the blocks, kept for the next ones.
#[derive(Debug, Default)]
pub(super) struct OtherBuffers {
    recurrence: RecurrenceBuffers,
    scan: ScanBuffers,
    convolution: ConvolutionBuffers,
}

/// `out = block(input)`; `input` is overwritten.
pub(super) fn run(
    kernels: &Kernels,
    block: &OtherBlock<'_>,
    batch: &mut [SequenceStep<'_, KvCache>],
    placements: &Placements,
    input: &mut Activations,
    buffers: &mut OtherBuffers,
    out: &mut Vec<f32>,
) {
    let &OtherBlock { mixer, weights, norm, layer } = block;
    let epsilon = norm.epsilon;
    match (mixer, weights) {
        (Mixer::Recurrence(spec), MixerWeights::Recurrence(weights)) => {
            let block = RecurrenceBlock { kernels, spec, weights, epsilon, layer };
            block.run(batch, placements, input, &mut buffers.recurrence, out);
        }
        (Mixer::Scan(spec), MixerWeights::Scan(weights)) => {
            let block = ScanBlock { kernels, spec, weights, epsilon, layer };
            block.run(batch, placements, input, &mut buffers.scan, out);
        }
        (Mixer::Convolution(spec), MixerWeights::Convolution(weights)) => {
            let block = ConvolutionBlock { kernels, spec, weights, layer };
            block.run(batch, placements, input, &mut buffers.convolution, out);
        }
        _ => unreachable!("weights are loaded as the architecture says"),
    }
}
