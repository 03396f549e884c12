//! Attention of each sequence's nodes over the latent rows in its own cache, in the absorbed form.

use super::backend::{Backend, HeadParts, LatentBlock, Normalised, Step};
use super::placements::Placements;
use crate::architecture::LatentAttention;

/// Memory of the block, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct LatentBuffers<Rows, Input> {
    /// What queries are made from.
    query_latents: Rows,
    query_input: Input,
    /// `[node][head][query_dim]`
    queries: Rows,
    /// `[node][rank + rope_dim]`
    latents: Rows,
    /// Queries for latent rows: `[node][head][rank + rope_dim]`
    absorbed: Rows,
    /// What attention makes of latent rows: `[node][head][rank]`
    mixed: Rows,
    /// `[node][head][value_dim]`
    values: Rows,
    gates: Rows,
}

/// `out = output(attention(input))`; `input` is overwritten.
pub(super) fn run_latent_attention<B: Backend>(
    backend: &mut B,
    block: &LatentBlock<'_>,
    batch: &mut [Step<'_, B>],
    placements: &Placements,
    input: &mut B::Input,
    buffers: &mut LatentBuffers<B::Rows, B::Input>,
    out: &mut B::Rows,
) {
    let &LatentBlock { spec, weights, norm, .. } = block;
    let &LatentAttention { heads, rank, plain_dim, rope_dim, value_dim, .. } = spec;
    let LatentBuffers { query_latents, query_input, queries, latents, absorbed, mixed, values, gates } =
        buffers;
    let nodes = placements.positions.len();
    match &weights.query_down {
        None => backend.apply(input, [(&weights.query, queries), (&weights.down, latents)]),
        Some((down, query_norm)) => {
            backend.apply(input, [(down, query_latents), (&weights.down, latents)]);
            let (shape, codes) = ([nodes, down.matrix.rows()], weights.query.input_codes());
            let how = Normalised { shape, norm, weights: Some(query_norm), codes };
            backend.normalise(how, query_latents, query_input);
            backend.apply(query_input, [(&weights.query, queries)]);
        }
    }
    if let Some(gate) = &weights.gate {
        backend.apply(input, [(gate, &mut *gates)]);
    }
    backend.turn_latents(block, placements, queries, latents);
    let layer = block.cache_layer();
    backend.store(layer, batch, placements, [&*latents, &*latents]);

    // What makes keys of latent rows makes queries for them.
    let part = |head_dim, first, width| HeadParts { heads, head_dim, first, width };
    let (query_dim, latent_dim) = (spec.query_dim(), rank + rope_dim);
    let parts = [part(query_dim, 0, plain_dim), part(latent_dim, 0, rank)];
    backend.apply_to_heads(&weights.key_up, parts, queries, absorbed);
    let parts = [part(query_dim, plain_dim, rope_dim), part(latent_dim, rank, rope_dim)];
    backend.copy_heads(parts, queries, absorbed);
    backend.attend(layer, block.shape(), batch, placements, absorbed, mixed);
    let parts = [part(rank, 0, rank), part(value_dim, 0, value_dim)];
    backend.apply_to_heads(&weights.value_up, parts, mixed, values);

    let gates = weights.gate.is_some().then_some(gates);
    let codes = weights.output.input_codes();
    backend.gate_heads([nodes, heads * value_dim], gates, values, codes, input);
    backend.apply(input, [(&weights.output, out)]);
}
