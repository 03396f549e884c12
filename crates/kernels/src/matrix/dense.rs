//! Matrices of floats: F32, F16, BF16.
//!
//! Packed: for each column, the sixteen rows' weights side by side. A product is summed in blocks of 32 columns: fused
//! multiply-adds within a block, then the block's sum is added to the element. That bounds the rounding error of long
//! rows, and the blocks are independent work for the processor.

use std::marker::PhantomData;
use std::ops::Range;

use super::output::Output;
use super::packed::Matrix;
use super::prefetch::prefetch;
use super::tiles::{MatrixProduct, Product, Tiles, is_first_tile, multiply_tiles};
use crate::activations::Activations;
use crate::block::dequantize_row;
use crate::simd::{GROUP, Simd, simd_fn};
use crate::weight_type::WeightType;

/// Columns that are summed before the sum is added to the element.
const BLOCK: usize = 32;

const fn element_bytes(weight_type: WeightType) -> usize {
    weight_type.block_bytes()
}

pub(super) fn group_bytes(weight_type: WeightType, columns: usize) -> usize {
    columns * GROUP * element_bytes(weight_type)
}

pub(super) fn pack_group(weight_type: WeightType, rows: &[&[u8]], packed: &mut [u8]) {
    let size = element_bytes(weight_type);
    for (column, lanes) in packed.chunks_exact_mut(GROUP * size).enumerate() {
        for (lane, row) in lanes.chunks_exact_mut(size).zip(rows) {
            lane.copy_from_slice(&row[column * size..][..size]);
        }
    }
}

pub(super) fn unpack_row(weight_type: WeightType, group: &[u8], row: usize, out: &mut [f32]) {
    let size = element_bytes(weight_type);
    for (lanes, out) in group.chunks_exact(GROUP * size).zip(out) {
        dequantize_row(weight_type, &lanes[row * size..][..size], std::slice::from_mut(out));
    }
}

/// How a weight is widened.
trait Element {
    /// A column of a group's weights.
    type Lanes: Copy;
    fn columns(group: &[u8]) -> &[Self::Lanes];
    fn load<S: Simd>(simd: S, lanes: &Self::Lanes, part: usize) -> S::F32;
}

macro_rules! element {
    ($name:ident, $bytes:expr, $load:ident) => {
        struct $name;
        impl Element for $name {
            type Lanes = [u8; $bytes];
            #[inline(always)]
            fn columns(group: &[u8]) -> &[Self::Lanes] {
                group.as_chunks().0
            }
            #[inline(always)]
            fn load<S: Simd>(simd: S, lanes: &Self::Lanes, part: usize) -> S::F32 {
                simd.$load(lanes, part)
            }
        }
    };
}
element!(Single, 4 * GROUP, load_f32);
element!(Half, 2 * GROUP, load_f16);
element!(Brain, 2 * GROUP, load_bf16);

simd_fn! {
    /// Computes the groups of `out`.
    pub(super) fn multiply(simd, matrix: &Matrix, x: &Activations, out: &mut Output<'_>) {
        match matrix.weight_type {
            WeightType::F16 => multiply_tiles(MatrixProduct::<S, Half> { simd, matrix, x, layout: PhantomData }, out),
            WeightType::Bf16 => multiply_tiles(MatrixProduct::<S, Brain> { simd, matrix, x, layout: PhantomData }, out),
            _ => multiply_tiles(MatrixProduct::<S, Single> { simd, matrix, x, layout: PhantomData }, out),
        }
    }
}

impl<S: Simd, E: Element> Product<S> for MatrixProduct<'_, S, E> {
    // Of one token with the rows of a group, of more with two vectors of rows.
    const TILES: Tiles = Tiles {
        light_vectors: S::PARTS,
        light_tokens: &[1],
        vectors: if S::TILES.len() > 1 { 2 } else { S::TILE_VECTORS },
        tokens: if S::TILES.len() > 1 { &[2, 4, 6] } else { S::TILES },
    };

    #[inline(always)]
    fn tokens(self) -> usize {
        self.x.tokens()
    }

    #[inline(always)]
    fn tile<const V: usize, const T: usize>(self, vector: usize, tokens: Range<usize>, out: &mut Output<'_>) {
        let Self { simd, matrix, x, .. } = self;
        let last = tokens.end - 1;
        let rows: [&[f32]; T] = std::array::from_fn(|t| x.row((tokens.start + t).min(last)));
        let (groups, parts) = matrix.vectors::<S, V>(vector);
        let weights: [&[E::Lanes]; V] = groups.map(E::columns);
        let block_bytes = BLOCK * size_of::<E::Lanes>();
        let is_first = is_first_tile(&tokens);
        let mut sums = [[simd.splat(0.0); T]; V];
        for first in (0..matrix.columns).step_by(BLOCK) {
            if is_first {
                prefetch::<S, V>(simd, groups, first / BLOCK * block_bytes, block_bytes);
            }
            let mut block = [[simd.splat(0.0); T]; V];
            // Whole blocks are arrays: nothing is checked column by column, and the loop is unrolled.
            let block_rows = all(rows.map(|row| row[first..].first_chunk::<BLOCK>()));
            let block_weights = all(weights.map(|w| w[first..].first_chunk::<BLOCK>()));
            if let (Some(rows), Some(weights)) = (block_rows, block_weights) {
                for i in 0..BLOCK {
                    let (w, x) = (weights.map(|w| &w[i]), rows.map(|row| row[i]));
                    add_column::<S, E, V, T>(simd, w, parts, x, &mut block);
                }
            } else {
                for i in first..matrix.columns {
                    let (w, x) = (weights.map(|w| &w[i]), rows.map(|row| row[i]));
                    add_column::<S, E, V, T>(simd, w, parts, x, &mut block);
                }
            }
            for v in 0..V {
                for t in 0..T {
                    sums[v][t] = simd.add(sums[v][t], block[v][t]);
                }
            }
        }
        for (t, token) in tokens.enumerate() {
            for v in 0..V {
                out.store(simd, token, vector + v, sums[v][t]);
            }
        }
    }
}

/// Adds the products of a column.
#[inline(always)]
fn add_column<S: Simd, E: Element, const V: usize, const T: usize>(
    simd: S,
    weights: [&E::Lanes; V],
    parts: [usize; V],
    x: [f32; T],
    sums: &mut [[S::F32; T]; V],
) {
    let mut w = [simd.splat(0.0); V];
    for v in 0..V {
        w[v] = E::load(simd, weights[v], parts[v]);
    }
    for t in 0..T {
        let x = simd.splat(x[t]);
        for v in 0..V {
            sums[v][t] = simd.fma(w[v], x, sums[v][t]);
        }
    }
}

/// All of them, or none.
#[inline(always)]
fn all<T: Copy, const N: usize>(options: [Option<T>; N]) -> Option<[T; N]> {
    let mut all = [options[0]?; N];
    for i in 1..N {
        all[i] = options[i]?;
    }
    Some(all)
}
