//! How the integer codes of a block of 32 columns lie packed.
//!
//! Codes lie in vectors of sixteen rows by four columns: vectors 0 to 3 hold columns 0 to 15 and vectors 4 to 7 hold columns
//! 16 to 31; nibbles put vector `v` into the low and vector `v + 4` into the high ones, pairs of bits vectors `v`, `v + 2`, `v + 4`
//! and `v + 6` into a byte from the lowest on, single bits all eight, with further bits of the codes in planes behind them.

use std::marker::PhantomData;

use crate::block::Block;
use crate::matrix::packed_form::CodeForm;
use crate::simd::{GROUP, Simd, first};
use crate::weight_type::WeightType;

/// Bytes of a vector: sixteen rows by four columns.
pub(super) const VECTOR: usize = 4 * GROUP;

/// How the integer codes of a block lie and how wide they are.
pub(super) trait Codes {
    /// Bytes of 16 rows by 32 columns.
    const BYTES: usize;
    /// Signed bytes, loaded plus 128; unsigned codes otherwise.
    const BIASED: bool;
    /// What is subtracted from every unsigned code is 2 to this power, if anything.
    const OFFSET_BITS: Option<u32>;
    /// Calls of [`Simd::dot`] whose sums fit 16 bits.
    const SUMMANDS: usize;
    /// As [`WeightType::unit`].
    const UNIT: f32 = 1.0;
    /// How they lie, for others.
    const FORM: CodeForm;
    fn pack(blocks: &[Block], packed: &mut [u8]);
    fn code(packed: &[u8], row: usize, column: usize) -> u8;
    /// Part `part` of vector `vector`.
    fn load<S: Simd>(simd: S, packed: &[u8], vector: usize, part: usize) -> S::Bytes;
}

/// The vector of column `column`, and the byte in it of row `row`.
pub(super) const fn place(row: usize, column: usize) -> (usize, usize) {
    (column / 4, row * 4 + column % 4)
}

/// A row's part of a vector: four columns, as one number of four bytes.
pub(super) const QUAD: usize = 4;

/// The codes of each vector's columns, for one row.
fn quads(block: &Block) -> [u32; 8] {
    let (quads, _) = block.codes.as_chunks::<QUAD>();
    std::array::from_fn(|vector| u32::from_le_bytes(quads[vector]))
}

/// Puts the part of row `row` into a vector.
pub(super) fn put_quad(vector: &mut [u8], row: usize, quad: u32) {
    vector[QUAD * row..][..QUAD].copy_from_slice(&quad.to_le_bytes());
}

/// `byte` in each byte of a [`QUAD`].
const fn in_each(byte: u8) -> u32 {
    u32::from_le_bytes([byte; QUAD])
}

/// Signed bytes, plus 128: the byte products of most instruction sets take unsigned weights.
pub(super) struct Bytes;

impl Codes for Bytes {
    const BYTES: usize = 8 * VECTOR;
    const BIASED: bool = true;
    const OFFSET_BITS: Option<u32> = None;
    const SUMMANDS: usize = 1;
    const FORM: CodeForm = CodeForm { bits: 8, plane_bits: 0, offset: 0, numbers: None, unit: 1.0 };

    fn pack(blocks: &[Block], packed: &mut [u8]) {
        for (row, block) in blocks.iter().enumerate() {
            for (vector, quad) in packed.chunks_exact_mut(VECTOR).zip(quads(block)) {
                put_quad(vector, row, quad ^ in_each(128));
            }
        }
    }

    fn code(packed: &[u8], row: usize, column: usize) -> u8 {
        let (vector, byte) = place(row, column);
        packed[VECTOR * vector + byte] ^ 128
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, packed: &[u8], vector: usize, part: usize) -> S::Bytes {
        simd.load_bytes(first(&packed[VECTOR * vector..]), part)
    }
}

/// Unsigned codes of `BITS` bits (1, 2 or 4) and `PLANE_BITS` more, minus 2 to the power of `OFFSET_BITS` unless that is 0.
pub(super) struct Narrow<const BITS: usize, const PLANE_BITS: usize, const OFFSET_BITS: u32>;

pub(super) type Nibbles<const PLANE_BITS: usize, const OFFSET_BITS: u32> = Narrow<4, PLANE_BITS, OFFSET_BITS>;
pub(super) type Singles = Narrow<1, 0, 0>;
pub(super) type Pairs = Narrow<2, 0, 0>;
pub(super) type Triples = Narrow<2, 1, 0>;

impl<const BITS: usize, const PLANE_BITS: usize, const OFFSET_BITS: u32> Codes
    for Narrow<BITS, PLANE_BITS, OFFSET_BITS>
{
    const BYTES: usize = (BITS + PLANE_BITS) * VECTOR;
    const BIASED: bool = false;
    const OFFSET_BITS: Option<u32> = if OFFSET_BITS == 0 { None } else { Some(OFFSET_BITS) };
    // 2 * 127 * 15 * 8 = 30,480, 2 * 127 * 31 * 4 = 31,496 and 2 * 127 * 63 * 2 = 32,004 are below 2^15.
    const SUMMANDS: usize = 8 >> (BITS + PLANE_BITS).saturating_sub(4);
    const FORM: CodeForm = CodeForm {
        bits: BITS as u32,
        plane_bits: PLANE_BITS as u32,
        offset: if OFFSET_BITS == 0 { 0 } else { 1 << OFFSET_BITS },
        numbers: None,
        unit: 1.0,
    };

    fn pack(blocks: &[Block], packed: &mut [u8]) {
        let (narrow, planes) = packed.split_at_mut(BITS * VECTOR);
        for (row, block) in blocks.iter().enumerate() {
            let quads = quads(block);
            let low = quads.map(|quad| quad & in_each((1 << BITS) - 1));
            for (v, vector) in narrow.chunks_exact_mut(VECTOR).enumerate() {
                let parts = low[v..].iter().step_by(BITS).enumerate().map(|(i, quad)| quad << (i * BITS));
                put_quad(vector, row, parts.fold(0, |all, part| all | part));
            }
            if PLANE_BITS == 0 {
                continue;
            }
            let high = quads.map(|quad| quad >> BITS & in_each((1 << PLANE_BITS) - 1));
            for (plane, high) in planes.chunks_exact_mut(VECTOR).zip(high.chunks(8 / PLANE_BITS)) {
                let parts = high.iter().enumerate().map(|(i, quad)| quad << (i * PLANE_BITS));
                put_quad(plane, row, parts.fold(0, |all, part| all | part));
            }
        }
    }

    fn code(packed: &[u8], row: usize, column: usize) -> u8 {
        let (narrow, planes) = packed.split_at(BITS * VECTOR);
        let (vector, byte) = place(row, column);
        let low = narrow[VECTOR * (vector % BITS) + byte] >> (BITS * (vector / BITS)) & ((1 << BITS) - 1);
        if PLANE_BITS == 0 {
            return low;
        }
        let bit = vector * PLANE_BITS;
        low | (planes[VECTOR * (bit / 8) + byte] >> (bit % 8) & ((1 << PLANE_BITS) - 1)) << BITS
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, packed: &[u8], vector: usize, part: usize) -> S::Bytes {
        let narrow = simd.load_bytes(first(&packed[VECTOR * (vector % BITS)..]), part);
        let low = match (BITS, vector / BITS) {
            (4, 0) => simd.low_nibbles(narrow),
            (4, _) => simd.high_nibbles(narrow),
            (_, place) => simd.bits(narrow, (BITS * place) as u32, BITS as u32, 0),
        };
        if PLANE_BITS == 0 {
            return low;
        }
        let bit = vector * PLANE_BITS;
        let plane = simd.load_bytes(first(&packed[VECTOR * (BITS + bit / 8)..]), part);
        simd.or(low, simd.bits(plane, (bit % 8) as u32, PLANE_BITS as u32, BITS as u32))
    }
}

/// Codes `C`, below 16, that say which of the numbers of `T`.
pub(super) struct Numbers<C, T>(PhantomData<(C, T)>);

/// The numbers of a weight type, made unsigned.
pub(super) trait Table {
    const WEIGHT_TYPE: WeightType;
    /// As [`Codes::OFFSET_BITS`]. Where there is none, the numbers are signed bytes plus 128.
    const OFFSET_BITS: Option<u32>;
    const BYTES: [u8; 16] = {
        let numbers = Self::WEIGHT_TYPE.numbers().expect("a type of uneven numbers");
        match Self::OFFSET_BITS {
            Some(bits) => plus(numbers, 1 << bits),
            None => plus(numbers, 128),
        }
    };
}

/// Tables of weight types.
macro_rules! tables {
    ($($(#[$attribute:meta])* $name:ident = ($weight_type:ident, $offset_bits:expr);)*) => {
        $(
            $(#[$attribute])*
            pub(super) struct $name;

            impl Table for $name {
                const WEIGHT_TYPE: WeightType = WeightType::$weight_type;
                const OFFSET_BITS: Option<u32> = $offset_bits;
            }
        )*
    };
}

tables! {
    /// IQ4_NL and IQ4_XS: from -127 to 113.
    Iq4Numbers = (Iq4Nl, None);
    /// MXFP4 and NVFP4: from -12 to 12.
    Mxfp4Numbers = (Mxfp4, Some(4));
    /// From -62 to 62.
    Iq3XxsNumbers = (Iq3Xxs, Some(6));
    /// From -15 to 15.
    Iq3SNumbers = (Iq3S, Some(4));
    /// All types of IQ2: from -43 to 43.
    Iq2Numbers = (Iq2Xxs, Some(6));
    /// All types of IQ1: from -9 to 9.
    Iq1Numbers = (Iq1S, Some(4));
    /// -1 and 1.
    BinaryNumbers = (Q1_0, Some(0));
    /// TQ1_0, TQ2_0 and Q2_0: from -1 to 2.
    TernaryNumbers = (Tq1_0, Some(0));
}

/// Numbers made unsigned.
const fn plus(numbers: &[i8; 16], offset: i16) -> [u8; 16] {
    let mut bytes = [0; 16];
    let mut i = 0;
    while i < 16 {
        bytes[i] = (numbers[i] as i16 + offset) as u8;
        i += 1;
    }
    bytes
}

/// Calls of [`Simd::dot`] with such weights whose sums fit 16 bits: a power of two, 8 at most.
const fn summands(bytes: &[u8; 16]) -> usize {
    let (mut largest, mut i) = (1, 0);
    while i < 16 {
        if bytes[i] as usize > largest {
            largest = bytes[i] as usize;
        }
        i += 1;
    }
    let mut summands = 8;
    while summands > 1 && summands * 2 * 127 * largest > i16::MAX as usize {
        summands /= 2;
    }
    summands
}

impl<C: Codes, T: Table> Codes for Numbers<C, T> {
    const BYTES: usize = C::BYTES;
    const BIASED: bool = T::OFFSET_BITS.is_none();
    const OFFSET_BITS: Option<u32> = T::OFFSET_BITS;
    const SUMMANDS: usize = summands(&T::BYTES);
    const UNIT: f32 = T::WEIGHT_TYPE.unit();
    const FORM: CodeForm = CodeForm { numbers: T::WEIGHT_TYPE.numbers(), unit: Self::UNIT, ..C::FORM };

    fn pack(blocks: &[Block], packed: &mut [u8]) {
        C::pack(blocks, packed);
    }

    fn code(packed: &[u8], row: usize, column: usize) -> u8 {
        C::code(packed, row, column)
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, packed: &[u8], vector: usize, part: usize) -> S::Bytes {
        simd.look_up(&T::BYTES, C::load(simd, packed, vector, part))
    }
}
