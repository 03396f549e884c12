//! Matrices of floats: F32, F16, BF16.
//!
//! Packed: for each column, the sixteen rows' weights side by side. A product is summed in blocks of 32 columns: fused
//! multiply-adds within a block, then the block's sum is added to the element. That bounds the rounding error of long
//! rows, and the blocks are independent work for the processor.

use super::{Matrix, Output, token_blocks};
use crate::simd::{GROUP, Simd, simd_fn};
use crate::{Activations, WeightType};

/// Columns that are summed before the sum is added to the element.
pub(super) const BLOCK: usize = 32;

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
        crate::block::dequantize_row(weight_type, &lanes[row * size..][..size], std::slice::from_mut(out));
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
            WeightType::F16 => multiply_elements::<S, Half>(simd, matrix, x, out),
            WeightType::Bf16 => multiply_elements::<S, Brain>(simd, matrix, x, out),
            _ => multiply_elements::<S, Single>(simd, matrix, x, out),
        }
    }
}

#[inline(always)]
fn multiply_elements<S: Simd, E: Element>(simd: S, matrix: &Matrix, x: &Activations, out: &mut Output<'_>) {
    let groups = out.groups.clone();
    for tokens in token_blocks(x.tokens()) {
        let mut group = groups.start;
        while group < groups.end {
            // A single token leaves registers for more rows.
            let vectors = match (tokens.len(), (groups.end - group) * S::PARTS) {
                (1, 4..) => 4,
                (_, 2..) => 2,
                _ => 1,
            };
            let mut token = tokens.start;
            while token < tokens.end {
                token += match (vectors, tokens.end - token) {
                    (4, _) => tile::<S, E, 4, 1>(simd, matrix, x, group, token, out),
                    (2, 6..) => tile::<S, E, 2, 6>(simd, matrix, x, group, token, out),
                    (2, 4..) => tile::<S, E, 2, 4>(simd, matrix, x, group, token, out),
                    (2, 2..) => tile::<S, E, 2, 2>(simd, matrix, x, group, token, out),
                    (2, _) => tile::<S, E, 2, 1>(simd, matrix, x, group, token, out),
                    (_, 4..) => tile::<S, E, 1, 4>(simd, matrix, x, group, token, out),
                    _ => tile::<S, E, 1, 1>(simd, matrix, x, group, token, out),
                };
            }
            group += vectors / S::PARTS;
        }
    }
}

/// `V` vectors of rows, from group `group` on, times `T` tokens; returns `T`.
#[inline(always)]
fn tile<S: Simd, E: Element, const V: usize, const T: usize>(
    simd: S,
    matrix: &Matrix,
    x: &Activations,
    group: usize,
    token: usize,
    out: &mut Output<'_>,
) -> usize {
    let rows: [&[f32]; T] = std::array::from_fn(|t| x.row(token + t));
    let weights: [&[E::Lanes]; V] = std::array::from_fn(|v| E::columns(matrix.group(group + v / S::PARTS)));
    let mut sums = [[simd.splat(0.0); T]; V];
    for first in (0..matrix.columns).step_by(BLOCK) {
        let mut block = [[simd.splat(0.0); T]; V];
        // Whole blocks first: their length is known, and nothing is checked column by column.
        let block_rows = all(rows.map(|row| row[first..].first_chunk::<BLOCK>()));
        let block_weights = all(weights.map(|w| w[first..].first_chunk::<BLOCK>()));
        if let (Some(rows), Some(weights)) = (block_rows, block_weights) {
            for i in 0..BLOCK {
                add_column::<S, E, V, T>(simd, weights.map(|w| &w[i]), rows.map(|row| row[i]), &mut block);
            }
        } else {
            for i in first..matrix.columns {
                add_column::<S, E, V, T>(simd, weights.map(|w| &w[i]), rows.map(|row| row[i]), &mut block);
            }
        }
        for v in 0..V {
            for t in 0..T {
                sums[v][t] = simd.add(sums[v][t], block[v][t]);
            }
        }
    }
    for t in 0..T {
        for first in (0..V).step_by(S::PARTS) {
            let mut lanes = [0.0; GROUP];
            for part in 0..S::PARTS {
                simd.store(sums[first + part][t], &mut lanes, part);
            }
            out.store(token + t, group + first / S::PARTS, &lanes);
        }
    }
    T
}

/// Adds the products of a column.
#[inline(always)]
fn add_column<S: Simd, E: Element, const V: usize, const T: usize>(
    simd: S,
    weights: [&E::Lanes; V],
    x: [f32; T],
    sums: &mut [[S::F32; T]; V],
) {
    let mut w = [simd.splat(0.0); V];
    for v in 0..V {
        w[v] = E::load(simd, weights[v], v % S::PARTS);
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
