//! Products of single heads, and latent rows.

use std::mem;

use lookahead_gpu::{HeadParts as Places, Rows, copy_heads, normalise_first};

use super::{GpuBackend, GpuRows, OnGpu};
use crate::transformer::backend::{HeadParts, LatentBlock};
use crate::transformer::placements::Placements;
use crate::weights::Linear;

impl GpuBackend<'_> {
    /// Multiplies a part of each head with the head's own map.
    pub(super) fn multiply_heads(
        &mut self,
        maps: &[Linear],
        [from, to]: [HeadParts; 2],
        rows: Rows,
        out: &mut GpuRows,
    ) {
        let out = self.make(out, rows.count, to.row_width());
        // The heads one behind the other, each as the rows of a product.
        let (count, width) = (rows.count, from.width);
        let mut input = mem::take(&mut self.on_gpu.head_input);
        let heads = self.make(&mut input.values, from.heads * count, width);
        let places = Places { at: heads.at, node_stride: width, head_stride: count * width };
        self.copy_parts(from, rows, places);
        for (head, linear) in maps.iter().enumerate() {
            let rows = Rows { at: heads.at + head * count * width, width, count };
            self.quantize(rows, linear.input_codes(), &mut input);
            self.multiply(&input, linear, Rows { at: out.at + to.of_head(head).start, ..out });
        }
        self.on_gpu.head_input = input;
    }

    /// Copies a part of each head to a part of the head in `out`.
    pub(super) fn copy_heads_to(&mut self, [from, to]: [HeadParts; 2], rows: Rows, out: &mut GpuRows) {
        let out = self.make(out, rows.count, to.row_width());
        self.copy_parts(from, rows, places(to, out));
    }

    /// Normalises latent rows, and turns what belongs to positions of them and of queries.
    pub(super) fn turn_latent_rows(
        &mut self,
        block: &LatentBlock<'_>,
        placements: &Placements,
        queries: Rows,
        latents: Rows,
    ) {
        let &LatentBlock { spec, weights, norm, rope, .. } = block;
        let norm = self.on_gpu.norm(norm, &weights.norm);
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        normalise_first(gpu, pass, norm, spec.rank, latents);
        if let Some(rope) = rope {
            self.rotate_heads(rope, placements, latents, latents.width, spec.rank);
            self.rotate_heads(rope, placements, queries, spec.query_dim(), spec.plain_dim);
        }
    }

    fn copy_parts(&mut self, parts: HeadParts, rows: Rows, to: Places) {
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        copy_heads(gpu, pass, [rows.count, parts.heads, parts.width], places(parts, rows), to);
    }
}

/// Where parts of the heads of rows lie.
fn places(parts: HeadParts, rows: Rows) -> Places {
    Places { at: rows.at + parts.first, node_stride: rows.width, head_stride: parts.head_dim }
}
