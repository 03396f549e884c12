//! Attention of each sequence's nodes over its own cache.

use super::backend::{AttentionBlock, Backend, Step};
use super::placements::Placements;

/// Memory of the block, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct AttentionBuffers<Rows> {
    queries: Rows,
    keys: Rows,
    values: Rows,
    /// What attention makes of the values.
    mixed: Rows,
    gates: Rows,
}

/// `out = output(attention(input))`; `input` is overwritten.
pub(super) fn run_attention<B: Backend>(
    backend: &mut B,
    block: &AttentionBlock<'_>,
    batch: &mut [Step<'_, B>],
    placements: &Placements,
    input: &mut B::Input,
    buffers: &mut AttentionBuffers<B::Rows>,
    out: &mut B::Rows,
) {
    let AttentionBuffers { queries, keys, values, mixed, gates } = buffers;
    let weights = block.weights;
    match &weights.keys_and_values[..] {
        [key, value] => backend.apply(input, [(&weights.query, queries), (key, keys), (value, values)]),
        [both] => {
            backend.apply(input, [(&weights.query, queries), (both, keys)]);
            backend.copy(keys, values);
        }
        _ => backend.apply(input, [(&weights.query, queries)]),
    }
    if let Some(gate) = &weights.gate {
        backend.apply(input, [(gate, gates)]);
    }
    let are_own = !weights.keys_and_values.is_empty();
    backend.turn(block, placements, queries, are_own.then_some([&mut *keys, &mut *values]));
    if are_own {
        backend.store(block, batch, placements, [keys, values]);
    }
    backend.attend(block, batch, placements, queries, mixed);
    backend.gate_heads(block, gates, mixed, input);
    backend.apply(input, [(&weights.output, out)]);
}
