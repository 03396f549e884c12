//! Products of quantized matrices in the tiles of AMX, for as many tokens as make them worth while.
//!
//! The sums are the same exact integers as elsewhere, and what is rounded is rounded as elsewhere. Weights are unpacked a unit of
//! columns at a time, once for all tokens of a portion. Sums come through memory; the tiles are a unit ahead of the vectors that
//! take them up, so that neither waits for the other.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use super::blocks::{BlockScales, Blocks, ScaleForm};
use super::codes::Codes;
use super::super_blocks::{MINIMUM_VECTORS, SubScales, SuperBlocks, factor, minima, negated_minima};
use super::{HALVES, Layout, MAX_BLOCKS};
use crate::activations::{Activations, BlockCodes, SuperBlockCodes};
use crate::matrix::output::Output;
use crate::matrix::packed::Matrix;
use crate::matrix::prefetch::prefetch_beside;
use crate::simd::{Amx, Avx512, GROUP, Simd, Sums, TILE_COLUMNS, TILE_TOKENS, Tiles, WeightLine, first};

/// Fewer tokens are multiplied as fast or faster without tiles.
pub(super) const LEAST_TOKENS: usize = 8;

/// Tokens that a task multiplies its rows with before it turns to the next.
const PORTION_TOKENS: usize = 128;

/// Vectors of codes to a block, each a line of a tile.
const BLOCK_LINES: usize = 8;

type F32 = <Avx512 as Simd>::F32;

/// Groups of sixteen rows that are multiplied together: each tile of tokens is loaded once for them.
const GROUPS: usize = 2;

/// A product, unit by unit of columns.
trait TileProduct {
    /// Columns of a tile.
    const TILE_COLUMNS: usize;
    /// Bytes of a unit of sixteen rows. The last unit of a row may have fewer.
    const BYTES: usize;
    /// What vectors take up the sums of a unit of a group with.
    type Scales: Copy;

    fn no_scales(simd: Avx512) -> Self::Scales;
    /// Makes lines of a unit of a group.
    fn unpack(
        simd: Avx512,
        group: &[u8],
        unit: Unit,
        lines: &mut [WeightLine; MAX_UNIT_LINES],
    ) -> Self::Scales;
    /// Starts the products of a unit with the tokens from `token` on that the tiles are set up for.
    fn start(tiles: &Tiles, lines: &Lines, unit: Unit, x: &Activations, token: usize);
    /// Adds the sums of a group to the elements of these tokens, which the first unit begins.
    fn finish(
        simd: Avx512,
        scales: &Self::Scales,
        unit: Unit,
        x: &Activations,
        token: usize,
        sums: &[Sums; 2],
        elements: &mut [[f32; GROUP]],
    );
}

/// The most lines of weights to a unit of a group.
const MAX_UNIT_LINES: usize = 2 * SUPER_LINES;

/// A unit of each group, unpacked.
type Lines = [[WeightLine; MAX_UNIT_LINES]; GROUPS];

/// A unit of columns.
#[derive(Clone, Copy)]
struct Unit {
    index: usize,
    /// Where it begins in the bytes of a group.
    at: usize,
    /// Its bytes.
    bytes: usize,
}

pub(super) fn multiply_blocks<C: Codes, M: ScaleForm>(
    amx: Amx,
    matrix: &Matrix,
    x: &Activations,
    out: &mut Output<'_>,
) {
    multiply::<BlockUnits<C, M>>(amx, matrix, x, out);
}

pub(super) fn multiply_super_blocks<C: Codes, K: SubScales>(
    amx: Amx,
    matrix: &Matrix,
    x: &Activations,
    out: &mut Output<'_>,
) {
    multiply::<SuperBlockUnits<C, K>>(amx, matrix, x, out);
}

fn multiply<P: TileProduct>(amx: Amx, matrix: &Matrix, x: &Activations, out: &mut Output<'_>) {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn compiled<P: TileProduct>(
        amx: Amx,
        matrix: &Matrix,
        x: &Activations,
        out: &mut Output<'_>,
        space: &mut Space,
    ) {
        let portion = equal_parts(x.tokens(), PORTION_TOKENS);
        let tile = equal_parts(portion, TILE_TOKENS);
        let tiles = amx.tiles(tile, P::TILE_COLUMNS);
        let groups = out.vectors::<Avx512>();
        for start in (0..x.tokens()).step_by(portion) {
            let tokens = start..(start + portion).min(x.tokens());
            for first in groups.clone().step_by(GROUPS) {
                let groups = [first, (first + 1).min(groups.end - 1)];
                multiply_groups::<P>(&tiles, matrix, groups, x, tokens.clone(), space, out);
            }
        }
    }
    // SAFETY: the token proves that the CPU has the features.
    SPACE.with_borrow_mut(|space| unsafe { compiled::<P>(amx, matrix, x, out, space) });
}

/// The size of parts of at most `most` that `all` is cut into: of equal size, not full ones and a remainder.
fn equal_parts(all: usize, most: usize) -> usize {
    all.div_ceil(all.div_ceil(most))
}

impl Unit {
    /// Unit `index` of rows of `len` bytes.
    #[inline(always)]
    fn at<P: TileProduct>(index: usize, len: usize) -> Self {
        Self { index, at: index * P::BYTES, bytes: P::BYTES.min(len - index * P::BYTES) }
    }
}

/// Unpacks a unit of each group.
#[inline(always)]
fn unpack_unit<P: TileProduct>(
    simd: Avx512,
    packed: [&[u8]; GROUPS],
    unit: Unit,
    lines: &mut Lines,
    scales: &mut [P::Scales; GROUPS],
) {
    for g in 0..GROUPS {
        scales[g] = P::unpack(simd, packed[g], unit, &mut lines[g]);
    }
}

/// What a thread works in.
struct Space {
    /// A unit of each group as tiles take it.
    lines: Lines,
    /// `[group][..]`
    sums: [Sums; 2 * GROUPS],
    /// `[group][tile][token]`
    elements: [[[[f32; GROUP]; TILE_TOKENS]; PORTION_TOKENS / TILE_TOKENS]; GROUPS],
}

thread_local! {
    /// Tasks are too short to clear so much memory each.
    static SPACE: RefCell<Space> = const {
        RefCell::new(Space {
            lines: [[WeightLine::ZERO; MAX_UNIT_LINES]; GROUPS],
            sums: [Sums::ZERO; 2 * GROUPS],
            elements: [[[[0.0; GROUP]; TILE_TOKENS]; PORTION_TOKENS / TILE_TOKENS]; GROUPS],
        })
    };
}

/// Multiplies two groups, the second of which is the first once more where there is but one.
#[inline(always)]
fn multiply_groups<P: TileProduct>(
    tiles: &Tiles,
    matrix: &Matrix,
    groups: [usize; GROUPS],
    x: &Activations,
    tokens: Range<usize>,
    space: &mut Space,
    out: &mut Output<'_>,
) {
    let (simd, tile) = (tiles.avx512(), tiles.tokens());
    let packed = [matrix.group(groups[0]), matrix.group(groups[1])];
    let Space { lines, sums, elements } = space;
    // Those of three units that follow one another: `[unit % 3][group]`.
    let mut scales = [[P::no_scales(simd); GROUPS]; 3];
    let at_once = tokens.len().div_ceil(tile);
    let len = matrix.group_bytes;
    let units = len.div_ceil(P::BYTES);
    unpack_unit::<P>(simd, packed, Unit::at::<P>(0, len), lines, &mut scales[0]);
    // While tiles sum a step, vectors unpack what comes next and take up the sums of the step before.
    for step in 0..=units * at_once {
        let (index, part) = (step / at_once, step % at_once);
        if step > 0 {
            tiles.store_sums(sums);
        }
        if index < units {
            P::start(tiles, lines, Unit::at::<P>(index, len), x, tokens.start + part * tile);
            if part + 1 == at_once && index + 1 < units {
                let next = Unit::at::<P>(index + 1, len);
                unpack_unit::<P>(simd, packed, next, lines, &mut scales[next.index % 3]);
            }
        }
        if let Some(before) = step.checked_sub(1) {
            let (index, part) = (before / at_once, before % at_once);
            for (g, sums) in sums.as_chunks().0.iter().enumerate() {
                let elements = &mut elements[g][part][..tile.next_multiple_of(FINISHED_AT_ONCE)];
                let token = tokens.start + part * tile;
                P::finish(simd, &scales[index % 3][g], Unit::at::<P>(index, len), x, token, sums, elements);
            }
        }
    }
    for (group, elements) in groups.into_iter().zip(elements.iter()) {
        for (first, elements) in tokens.clone().step_by(tile).zip(elements) {
            for (token, element) in (first..tokens.end.min(first + tile)).zip(elements) {
                out.store(simd, token, group, simd.load(element, 0));
            }
        }
    }
}

/// Tokens whose elements vectors keep in registers.
const FINISHED_AT_ONCE: usize = 4;

/// Units of some blocks of 32 columns, with a scale each: a tile each.
struct BlockUnits<C, M>(PhantomData<(C, M)>);

/// Blocks to a unit.
const UNIT_BLOCKS: usize = 2;

impl<C: Codes, M: ScaleForm> TileProduct for BlockUnits<C, M> {
    const TILE_COLUMNS: usize = 32;
    const BYTES: usize = UNIT_BLOCKS * Blocks::<C, M>::BYTES;
    type Scales = [BlockScales<Avx512>; UNIT_BLOCKS];

    #[inline(always)]
    fn no_scales(simd: Avx512) -> Self::Scales {
        [BlockScales::zero(simd); UNIT_BLOCKS]
    }

    #[inline(always)]
    fn unpack(
        simd: Avx512,
        group: &[u8],
        unit: Unit,
        lines: &mut [WeightLine; MAX_UNIT_LINES],
    ) -> Self::Scales {
        let mut scales = [BlockScales::zero(simd); UNIT_BLOCKS];
        let packed = &group[unit.at..][..unit.bytes];
        for (b, block) in packed.chunks_exact(Blocks::<C, M>::BYTES).enumerate() {
            let at = unit.at + b * block.len();
            prefetch_beside(simd, group, GROUPS - 1, at, block.len());
            scales[b] = BlockScales::load::<M>(simd, block, 0, 0);
            for v in 0..BLOCK_LINES {
                let codes = C::load(simd, &block[Blocks::<C, M>::SCALE_BYTES..], v, 0);
                simd.store_line(signed::<C>(simd, codes), &mut lines[b * BLOCK_LINES + v]);
            }
        }
        scales
    }

    #[inline(always)]
    fn start(tiles: &Tiles, lines: &Lines, unit: Unit, x: &Activations, token: usize) {
        let blocks = unit.bytes / Blocks::<C, M>::BYTES;
        let first = unit.index * UNIT_BLOCKS;
        let (codes, _) = x.blocks::<TILE_TOKENS>(first, token);
        let (last_codes, _) = x.blocks::<TILE_TOKENS>(first + blocks - 1, token);
        let codes = [codes.as_ptr().cast(), last_codes.as_ptr().cast()];
        let lines = [&lines[0][..], &lines[1][..]];
        // SAFETY: each of the tokens has 32 codes in a block.
        unsafe { tiles.multiply_each(&codes[..blocks], size_of::<BlockCodes>(), lines) };
    }

    #[inline(always)]
    fn finish(
        simd: Avx512,
        scales: &Self::Scales,
        unit: Unit,
        x: &Activations,
        token: usize,
        sums: &[Sums; 2],
        elements: &mut [[f32; GROUP]],
    ) {
        let blocks = unit.bytes / Blocks::<C, M>::BYTES;
        for (part, elements) in elements.as_chunks_mut::<FINISHED_AT_ONCE>().0.iter_mut().enumerate() {
            let at = part * FINISHED_AT_ONCE;
            let mut vectors = [simd.splat(0.0); FINISHED_AT_ONCE];
            if unit.index > 0 {
                for t in 0..FINISHED_AT_ONCE {
                    vectors[t] = simd.load(&elements[t], 0);
                }
            }
            for b in 0..blocks {
                let (_, x) = x.blocks::<TILE_TOKENS>(unit.index * UNIT_BLOCKS + b, token);
                for t in 0..FINISHED_AT_ONCE {
                    let sum = simd.load_sums(&sums[b].0[at + t]);
                    vectors[t] = scales[b].add::<M>(simd, &x[at + t], sum, vectors[t]);
                }
            }
            for t in 0..FINISHED_AT_ONCE {
                simd.store(vectors[t], &mut elements[t], 0);
            }
        }
    }
}

/// Codes as signed bytes, their offset taken off.
#[inline(always)]
fn signed<C: Codes>(simd: Avx512, codes: <Avx512 as Simd>::Bytes) -> <Avx512 as Simd>::Bytes {
    match C::OFFSET_BITS {
        _ if C::BIASED => simd.less(codes, 128),
        Some(bits) => simd.less(codes, 1 << bits),
        None => codes,
    }
}

/// Units of a super-block. Codes and sub-scales are multiplied when they are unpacked: the products, which a byte does not hold, are two planes
/// of bytes. So sums of a whole super-block stay in a tile.
struct SuperBlockUnits<C, K>(PhantomData<(C, K)>);

/// Lines of a super-block.
const SUPER_LINES: usize = MAX_BLOCKS * BLOCK_LINES;

#[derive(Clone, Copy)]
struct SuperScales {
    d: F32,
    d_min: F32,
    minima: [<Avx512 as Simd>::Bytes; MINIMUM_VECTORS],
}

impl<C: Codes, K: SubScales> SuperBlockUnits<C, K> {
    /// A product is its byte in the first plane plus that in the second times 2 to this power.
    const PLANE_BITS: u32 = if Self::SIGNED { 7 } else { 3 };
    /// Whether products are signed.
    const SIGNED: bool = C::BIASED || C::OFFSET_BITS.is_some();
}

impl<C: Codes, K: SubScales> TileProduct for SuperBlockUnits<C, K> {
    const TILE_COLUMNS: usize = TILE_COLUMNS;
    const BYTES: usize = SuperBlocks::<C, K>::BYTES;
    type Scales = SuperScales;

    #[inline(always)]
    fn no_scales(simd: Avx512) -> Self::Scales {
        SuperScales {
            d: simd.splat(0.0),
            d_min: simd.splat(0.0),
            minima: [simd.splat4([0; 4]); MINIMUM_VECTORS],
        }
    }

    #[inline(always)]
    fn unpack(
        simd: Avx512,
        group: &[u8],
        unit: Unit,
        lines: &mut [WeightLine; MAX_UNIT_LINES],
    ) -> Self::Scales {
        let packed = &group[unit.at..][..Self::BYTES];
        // Little by little: asked for at once, they would wait for one another.
        let portion = Self::BYTES / (K::TO_A_BLOCK * MAX_BLOCKS);
        let (low, high) = lines.split_at_mut(SUPER_LINES);
        for index in 0..K::TO_A_BLOCK * MAX_BLOCKS {
            prefetch_beside(simd, group, GROUPS - 1, unit.at + index * portion, portion);
            let factor = factor::<_, C, K>(simd, packed, 0, index);
            let scaled = BLOCK_LINES / K::TO_A_BLOCK;
            for line in index * scaled..(index + 1) * scaled {
                let block = SuperBlocks::<C, K>::codes(packed, line / BLOCK_LINES);
                let codes = C::load(simd, block, line % BLOCK_LINES, 0);
                let planes = if Self::SIGNED {
                    simd.scale_signed_bytes(signed::<C>(simd, codes), simd.factor_words(factor))
                } else {
                    // Codes below 32 times 3 bits fit a byte.
                    let [below, above] = simd.split_factor(factor, Self::PLANE_BITS);
                    [simd.scale_bytes(codes, below), simd.scale_bytes(codes, above)]
                };
                simd.store_line(planes[0], &mut low[line]);
                simd.store_line(planes[1], &mut high[line]);
            }
        }
        let mut scales =
            SuperScales { d: SuperBlocks::<C, K>::scale(simd, packed, 0), ..Self::no_scales(simd) };
        if K::MINIMUM {
            scales.d_min = simd.load_f16(first(&packed[HALVES..]), 0);
            scales.minima = minima::<_, C, K>(simd, packed, 0);
        }
        scales
    }

    #[inline(always)]
    fn start(tiles: &Tiles, lines: &Lines, unit: Unit, x: &Activations, token: usize) {
        let (codes, _) = x.super_blocks::<TILE_TOKENS>(unit.index, token);
        let (codes, stride) = (codes.as_ptr().cast(), size_of::<SuperBlockCodes>());
        // SAFETY: each of the tokens has 256 codes in a super-block.
        unsafe {
            if Self::SIGNED {
                tiles.multiply_planes::<true>(codes, stride, [&lines[0], &lines[1]]);
            } else {
                tiles.multiply_planes::<false>(codes, stride, [&lines[0], &lines[1]]);
            }
        }
    }

    #[inline(always)]
    fn finish(
        simd: Avx512,
        scales: &Self::Scales,
        unit: Unit,
        x: &Activations,
        token: usize,
        sums: &[Sums; 2],
        elements: &mut [[f32; GROUP]],
    ) {
        let (_, x) = x.super_blocks::<TILE_TOKENS>(unit.index, token);
        for (t, element) in elements.iter_mut().enumerate() {
            let high = simd.i32_shift_left(simd.load_sums(&sums[1].0[t]), Self::PLANE_BITS);
            let sum = simd.i32_add(simd.load_sums(&sums[0].0[t]), high);
            let x_scale = simd.splat(x[t].scale);
            let mut vector = if unit.index > 0 { simd.load(element, 0) } else { simd.splat(0.0) };
            vector = simd.fma(simd.mul(scales.d, x_scale), simd.i32_to_f32(sum), vector);
            if K::MINIMUM {
                let minima = negated_minima::<_, K>(simd, scales.minima, &x[t]);
                vector = simd.fma(simd.mul(scales.d_min, x_scale), simd.i32_to_f32(minima), vector);
            }
            simd.store(vector, element, 0);
        }
    }
}
