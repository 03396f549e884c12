//! Matrices of integer codes, multiplied with activations quantized to bytes.
//!
//! What an element is depends on the weight type: see [`blocks`] for those with a scale to every 32 columns and [`super_blocks`]
//! for K-quants. Either way the sums of products are exact integers, whatever computes them; what is rounded is rounded in one order.

#[cfg(target_arch = "x86_64")]
mod amx;
mod blocks;
mod codes;
mod products;
mod super_blocks;

use self::blocks::{Blocks, HalfScale, HalfScaleAndMinimum, PowerOfTwo, TwoHalfScales};
use self::codes::{
    BinaryNumbers, Bytes, Iq1Numbers, Iq2Numbers, Iq3SNumbers, Iq3XxsNumbers, Iq4Numbers, Mxfp4Numbers,
    Nibbles, Numbers, Pairs, Singles, TernaryNumbers, Triples,
};
use self::super_blocks::{HalfMinimumScales, HalfScales, MinimumScales, SuperBlocks, WholeScales};
use super::output::Output;
use super::packed::Matrix;
use super::packed_form::PackedForm;
use crate::activations::Activations;
use crate::block::{Block, decode_block};
use crate::simd::{GROUP, Isa, Simd};
use crate::weight_type::WeightType;

/// Bytes of a half for each row.
const HALVES: usize = 2 * GROUP;

/// The most blocks of 32 columns to a super-block, and to a block of a file.
const MAX_BLOCKS: usize = 8;

/// How the weights of a type lie packed and are multiplied.
trait Layout {
    /// Blocks of 32 columns to a super-block.
    const BLOCKS: usize;
    /// Bytes of a super-block of sixteen rows.
    const BYTES: usize;
    /// How they lie.
    const FORM: PackedForm;
    /// Packs a super-block: `blocks[b]` is block `b` of each row.
    fn pack(blocks: &[&[Block]], packed: &mut [u8]);
    /// Block `block` of row `row`.
    fn unpack(packed: &[u8], block: usize, row: usize) -> Block;
    /// Computes the groups of `out`.
    fn multiply(isa: Isa, matrix: &Matrix, x: &Activations, out: &mut Output<'_>);
}

/// Evaluates `$body` with `$L` bound to the layout of a quantized weight type.
macro_rules! with_layout {
    ($weight_type:expr, $L:ident => $body:expr) => {
        match $weight_type {
            WeightType::Q8_0 => with_layout!(@ $L = Blocks<Bytes, HalfScale>, $body),
            WeightType::Q4_0 => with_layout!(@ $L = Blocks<Nibbles<0, 3>, HalfScale>, $body),
            WeightType::Q4_1 => with_layout!(@ $L = Blocks<Nibbles<0, 0>, HalfScaleAndMinimum>, $body),
            WeightType::Q5_0 => with_layout!(@ $L = Blocks<Nibbles<1, 4>, HalfScale>, $body),
            WeightType::Q5_1 => with_layout!(@ $L = Blocks<Nibbles<1, 0>, HalfScaleAndMinimum>, $body),
            WeightType::Iq4Nl => with_layout!(@ $L = Blocks<Numbers<Nibbles<0, 0>, Iq4Numbers>, HalfScale>, $body),
            WeightType::Mxfp4 => with_layout!(@ $L = Blocks<Numbers<Nibbles<0, 0>, Mxfp4Numbers>, PowerOfTwo>, $body),
            WeightType::Nvfp4 => with_layout!(@ $L = Blocks<Numbers<Nibbles<0, 0>, Mxfp4Numbers>, TwoHalfScales>, $body),
            WeightType::Q1_0 => with_layout!(@ $L = Blocks<Numbers<Singles, BinaryNumbers>, HalfScale>, $body),
            WeightType::Q2_0 => with_layout!(@ $L = Blocks<Numbers<Pairs, TernaryNumbers>, HalfScale>, $body),
            WeightType::Iq4Xs => with_layout!(@ $L = SuperBlocks<Numbers<Nibbles<0, 0>, Iq4Numbers>, WholeScales>, $body),
            WeightType::Iq3Xxs => with_layout!(@ $L = SuperBlocks<Numbers<Nibbles<0, 0>, Iq3XxsNumbers>, WholeScales>, $body),
            WeightType::Iq3S => with_layout!(@ $L = SuperBlocks<Numbers<Nibbles<0, 0>, Iq3SNumbers>, WholeScales>, $body),
            WeightType::Iq2Xxs | WeightType::Iq2Xs | WeightType::Iq2S => {
                with_layout!(@ $L = SuperBlocks<Numbers<Triples, Iq2Numbers>, HalfScales>, $body)
            }
            WeightType::Iq1S | WeightType::Iq1M => {
                with_layout!(@ $L = SuperBlocks<Numbers<Triples, Iq1Numbers>, HalfScales>, $body)
            }
            WeightType::Tq1_0 | WeightType::Tq2_0 => {
                with_layout!(@ $L = SuperBlocks<Numbers<Pairs, TernaryNumbers>, WholeScales>, $body)
            }
            WeightType::Q2K => with_layout!(@ $L = SuperBlocks<Pairs, HalfMinimumScales>, $body),
            WeightType::Q3K => with_layout!(@ $L = SuperBlocks<Nibbles<0, 2>, HalfScales>, $body),
            WeightType::Q4K => with_layout!(@ $L = SuperBlocks<Nibbles<0, 0>, MinimumScales>, $body),
            WeightType::Q5K => with_layout!(@ $L = SuperBlocks<Nibbles<1, 0>, MinimumScales>, $body),
            WeightType::Q6K => with_layout!(@ $L = SuperBlocks<Nibbles<2, 5>, HalfScales>, $body),
            WeightType::F32 | WeightType::F16 | WeightType::Bf16 => unreachable!("not quantized"),
        }
    };
    (@ $L:ident = $layout:ty, $body:expr) => {{
        type $L = $layout;
        $body
    }};
}

/// Bytes of sixteen rows of `columns` weights, packed: whole super-blocks, which is all that kernels ask of a matrix.
///
/// # Panics
/// If a row is no whole number of super-blocks.
pub(super) fn group_bytes(weight_type: WeightType, columns: usize) -> usize {
    with_layout!(weight_type, L => {
        assert!(columns.is_multiple_of(32 * L::BLOCKS), "a row of whole super-blocks");
        columns / (32 * L::BLOCKS) * L::BYTES
    })
}

/// How sixteen rows lie packed.
pub(super) fn packed_form(weight_type: WeightType) -> PackedForm {
    with_layout!(weight_type, L => L::FORM)
}

/// Packs up to sixteen rows of a file.
pub(super) fn pack_group(weight_type: WeightType, rows: &[&[u8]], packed: &mut [u8]) {
    with_layout!(weight_type, L => {
        let size = weight_type.block_bytes();
        let file_blocks = weight_type.block_weights() / 32;
        // blocks[b]: block b of every row.
        let mut blocks = [[Block::ZERO; GROUP]; MAX_BLOCKS];
        for (index, packed) in packed.chunks_exact_mut(file_blocks / L::BLOCKS * L::BYTES).enumerate() {
            for (r, row) in rows.iter().enumerate() {
                let mut b = 0;
                decode_block(weight_type, &row[index * size..][..size], |block| {
                    blocks[b][r] = block;
                    b += 1;
                });
            }
            let blocks = blocks.each_ref().map(|blocks| &blocks[..rows.len()]);
            for (blocks, packed) in blocks.chunks_exact(L::BLOCKS).zip(packed.chunks_exact_mut(L::BYTES)) {
                L::pack(blocks, packed);
            }
        }
    });
}

/// Dequantizes row `row` of a packed group.
pub(super) fn unpack_row(weight_type: WeightType, group: &[u8], row: usize, out: &mut [f32]) {
    with_layout!(weight_type, L => {
        let super_blocks = group.chunks_exact(L::BYTES);
        for (packed, out) in super_blocks.zip(out.chunks_exact_mut(32 * L::BLOCKS)) {
            for (block, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                *out = L::unpack(packed, block, row).dequantize(weight_type);
            }
        }
    });
}

/// Computes the groups of `out`.
pub(super) fn multiply(isa: Isa, matrix: &Matrix, x: &Activations, out: &mut Output<'_>) {
    with_layout!(matrix.weight_type, L => L::multiply(isa, matrix, x, out));
}

fn put_halves(packed: &mut [u8], halves: impl Iterator<Item = u16>) {
    for (index, half) in halves.enumerate() {
        packed[2 * index..][..2].copy_from_slice(&half.to_le_bytes());
    }
}

fn half_at(packed: &[u8], index: usize) -> u16 {
    u16::from_le_bytes([packed[2 * index], packed[2 * index + 1]])
}

/// Four codes of a token from column `column` on, the same in every lane.
#[inline(always)]
fn splat_codes<S: Simd>(simd: S, codes: &[i8], column: usize) -> S::Bytes {
    simd.splat4([codes[column], codes[column + 1], codes[column + 2], codes[column + 3]])
}
