//! Latent rows, and the queries for them.

use lookahead_kernels::Kernels;

use super::norm::normalise;
use crate::architecture::LatentAttention;
use crate::transformer::backend::LatentBlock;
use crate::transformer::placements::Placements;

/// Normalises latent rows, and turns what belongs to positions.
pub(super) fn turn_latents(
    kernels: &Kernels,
    block: &LatentBlock<'_>,
    placements: &Placements,
    queries: &mut [f32],
    latents: &mut [f32],
) {
    let &LatentBlock { spec, weights, norm, rope, .. } = block;
    let isa = kernels.isa();
    let &LatentAttention { heads, rank, plain_dim, rope_dim, .. } = spec;
    let (query_width, latent_width) = (heads * spec.query_dim(), rank + rope_dim);
    let rows = [(queries, query_width), (latents, latent_width)];
    let tokens = placements.positions.len();
    kernels.for_each_row(tokens, 4 * (query_width + latent_width), rows, |token, [query, latent]| {
        let position = placements.positions[token];
        let (row, key) = latent.split_at_mut(rank);
        normalise(isa, norm, &weights.norm, row);
        let Some(rope) = rope else { return };
        rope.rotate(isa, key, rope_dim, position);
        for head in query.chunks_exact_mut(spec.query_dim()) {
            rope.rotate(isa, &mut head[plain_dim..], rope_dim, position);
        }
    });
}
