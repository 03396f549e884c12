//! Matrices of floats: F32, F16, BF16.
//!
//! Packed: for each column, the eight rows' weights side by side. A product is summed in blocks of 32 columns: fused
//! multiply-adds within a block, then the block's sum is added to the element. That bounds the rounding error of long
//! rows, and the blocks are independent work for the processor.

use super::{GROUP_ROWS, Matrix, Output};
use crate::simd::{Simd, simd_fn};
use crate::{Activations, WeightType};

/// Groups of rows that a tile covers, at most: each loaded activation serves all of them.
pub(super) const TILE_GROUPS: usize = 4;

/// Columns that are summed before the sum is added to the element.
pub(super) const BLOCK: usize = 32;

const fn element_bytes(weight_type: WeightType) -> usize {
    weight_type.block_bytes()
}

pub(super) fn group_bytes(weight_type: WeightType, columns: usize) -> usize {
    columns * GROUP_ROWS * element_bytes(weight_type)
}

pub(super) fn pack_group(weight_type: WeightType, rows: &[&[u8]], packed: &mut [u8]) {
    let size = element_bytes(weight_type);
    for (column, lanes) in packed.chunks_exact_mut(GROUP_ROWS * size).enumerate() {
        for (lane, row) in lanes.chunks_exact_mut(size).zip(rows) {
            lane.copy_from_slice(&row[column * size..][..size]);
        }
    }
}

pub(super) fn unpack_row(weight_type: WeightType, group: &[u8], row: usize, out: &mut [f32]) {
    let size = element_bytes(weight_type);
    for (lanes, out) in group.chunks_exact(GROUP_ROWS * size).zip(out) {
        crate::block::dequantize_row(weight_type, &lanes[row * size..][..size], std::slice::from_mut(out));
    }
}

/// How a weight is widened.
trait Element {
    const BYTES: usize;
    fn load<S: Simd>(simd: S, lanes: &[u8]) -> S::F32;
}

macro_rules! element {
    ($name:ident, $bytes:literal, $load:ident) => {
        struct $name;
        impl Element for $name {
            const BYTES: usize = $bytes;
            #[inline(always)]
            fn load<S: Simd>(simd: S, lanes: &[u8]) -> S::F32 {
                match lanes.first_chunk() {
                    Some(lanes) => simd.$load(lanes),
                    None => simd.splat(0.0),
                }
            }
        }
    };
}
element!(Single, 32, load_f32);
element!(Half, 16, load_f16);
element!(Brain, 16, load_bf16);

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
    let mut group = groups.start;
    while group < groups.end {
        // Few tokens leave registers for more rows.
        let step = match (x.tokens(), groups.end - group) {
            (1, 4..) => 4,
            (_, 2..) => 2,
            _ => 1,
        };
        let mut token = 0;
        while token < x.tokens() {
            token += match (step, x.tokens() - token) {
                (4, _) => tile::<S, E, 4, 1>(simd, matrix, x, group, token, out),
                (2, 4..) => tile::<S, E, 2, 4>(simd, matrix, x, group, token, out),
                (2, 2..) => tile::<S, E, 2, 2>(simd, matrix, x, group, token, out),
                (2, _) => tile::<S, E, 2, 1>(simd, matrix, x, group, token, out),
                (_, 4..) => tile::<S, E, 1, 4>(simd, matrix, x, group, token, out),
                (_, 2..) => tile::<S, E, 1, 2>(simd, matrix, x, group, token, out),
                _ => tile::<S, E, 1, 1>(simd, matrix, x, group, token, out),
            };
        }
        group += step;
    }
}

/// `G` groups of rows times `T` tokens; returns `T`.
#[inline(always)]
fn tile<S: Simd, E: Element, const G: usize, const T: usize>(
    simd: S,
    matrix: &Matrix,
    x: &Activations,
    group: usize,
    token: usize,
    out: &mut Output<'_>,
) -> usize {
    let weights: [&[u8]; G] = std::array::from_fn(|g| matrix.group(group + g));
    let rows: [&[f32]; T] = std::array::from_fn(|t| x.row(token + t));
    let mut sums = [[simd.splat(0.0); T]; G];
    for block in 0..matrix.columns.div_ceil(BLOCK) {
        let columns = block * BLOCK..((block + 1) * BLOCK).min(matrix.columns);
        let len = columns.len();
        let rows: [&[f32]; T] = rows.map(|row| &row[columns.clone()]);
        let weights: [&[u8]; G] = weights.map(|w| &w[columns.start * E::BYTES..][..len * E::BYTES]);
        let mut block_sums = [[simd.splat(0.0); T]; G];
        for i in 0..len {
            let mut w = [simd.splat(0.0); G];
            for g in 0..G {
                w[g] = E::load(simd, &weights[g][i * E::BYTES..]);
            }
            for t in 0..T {
                let x = simd.splat(rows[t][i]);
                for g in 0..G {
                    block_sums[g][t] = simd.fma(w[g], x, block_sums[g][t]);
                }
            }
        }
        for g in 0..G {
            for t in 0..T {
                sums[g][t] = simd.add(sums[g][t], block_sums[g][t]);
            }
        }
    }
    for g in 0..G {
        for t in 0..T {
            let mut lanes = [0.0; 8];
            simd.store(sums[g][t], &mut lanes);
            out.store(token + t, group + g, &lanes);
        }
    }
    T
}
