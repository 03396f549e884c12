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
    let (weights, layer) = (block.weights, block.cache_layer());
    match &weights.keys_and_values[..] {
        [key, value] => backend.apply(input, [(&weights.query, queries), (key, keys), (value, values)]),
        [both] => {
            backend.apply(input, [(&weights.query, queries), (both, keys)]);
            backend.copy(keys, values);
        }
        _ => backend.apply(input, [(&weights.query, queries)]),
    }
    if let Some(gate) = &weights.gate {
        backend.apply(input, [(gate, &mut *gates)]);
    }
    let are_own = !weights.keys_and_values.is_empty();
    backend.turn(block, placements, queries, are_own.then_some([&mut *keys, &mut *values]));
    if are_own {
        backend.store(layer, batch, placements, [keys, values]);
    }
    backend.attend(layer, block.shape(), batch, placements, queries, mixed);
    let shape = [placements.positions.len(), block.spec.heads * block.spec.value_dim];
    let gates = weights.gate.is_some().then_some(gates);
    backend.gate_heads(shape, gates, mixed, weights.output.input_codes(), input);
    backend.apply(input, [(&weights.output, out)]);
}
