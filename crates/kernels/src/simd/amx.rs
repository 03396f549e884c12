//! AMX: products of bytes in tile registers, beside AVX-512 for all else (x86-64 servers since 2023).
//!
//! A tile is up to sixteen rows of up to 64 bytes. One instruction multiplies a tile of tokens by columns with a tile of columns by
//! sixteen matrix rows, which is how weights lie packed, and adds the exact sums of products to a third. (Intel, Architecture
//! Instruction Set Extensions Programming Reference, chapter 3.)
//!
//! While tiles are in use, the CPU has half of its 512-bit units for multiplications of floats and integers (measured on a Xeon of family 6,
//! model 167), so that what is left of them beside tiles decides.

use std::arch::asm;
use std::arch::x86_64::*;

use super::avx512::Avx512;
use super::vector::GROUP;

/// Proof that the CPU has AMX with byte products and what [`Avx512`] proves, and that the system lets this process use tiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx(Avx512);

/// Rows of a tile: tokens.
pub(crate) const TILE_TOKENS: usize = 16;

/// Columns of a full tile.
pub(crate) const TILE_COLUMNS: usize = 64;

/// Exact sums of products: of each token with sixteen rows of a matrix.
#[repr(align(64))]
#[derive(Clone, Copy)]
pub(crate) struct Sums(pub(crate) [[i32; GROUP]; TILE_TOKENS]);

impl Sums {
    pub(crate) const ZERO: Self = Self([[0; GROUP]; TILE_TOKENS]);
}

/// Bytes of weights as a tile takes them: sixteen rows by four columns.
#[repr(align(64))]
#[derive(Clone, Copy)]
pub(crate) struct WeightLine(pub(crate) [u8; 4 * GROUP]);

impl WeightLine {
    pub(crate) const ZERO: Self = Self([0; 4 * GROUP]);
}

/// What `ldtilecfg` reads: how many rows and bytes a row each tile has.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Amx {
    pub(crate) fn detect() -> Option<Self> {
        let avx512 = Avx512::detect()?;
        (has_tiles() && may_use_tiles()).then_some(Self(avx512))
    }

    /// The vectors of the same CPU.
    #[inline(always)]
    pub(crate) fn avx512(self) -> Avx512 {
        self.0
    }

    /// Sets up this thread's tiles for products of `tokens` tokens, until the result is dropped: tiles 0 and 1 for tokens, 2 and 3 for
    /// weights, both of `columns` columns, tiles 4 to 7 for sums.
    ///
    /// # Panics
    /// If there are more than [`TILE_TOKENS`] tokens, or columns do not fit a tile.
    pub(crate) fn tiles(self, tokens: usize, columns: usize) -> Tiles {
        assert!(columns.is_multiple_of(4) && (4..=TILE_COLUMNS).contains(&columns), "columns of a tile");
        assert!((1..=TILE_TOKENS).contains(&tokens), "tokens of a tile");
        let mut config =
            TileConfig { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        config.rows[..8].fill(tokens as u8);
        config.rows[2..4].fill((columns / 4) as u8);
        config.row_bytes[..8].fill(64);
        config.row_bytes[..2].fill(columns as u16);
        // SAFETY: `self` proves AMX; the configuration is valid: palette 1 has eight tiles of 16 rows of 64 bytes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags));
        };
        Tiles { amx: self, tokens, columns }
    }
}

/// This thread's tiles, set up.
pub(crate) struct Tiles {
    amx: Amx,
    tokens: usize,
    columns: usize,
}

/// A tile of tokens, or of weights, is loaded.
macro_rules! load {
    ($tile:literal, $from:literal, $stride:literal) => {
        concat!("tileloadd tmm", $tile, ", [", $from, " + {", $stride, "}]\n")
    };
}

/// A tile of tokens and one of weights are multiplied, and added to a tile of sums.
macro_rules! add_product {
    ($product:literal, $sums:literal, $x:literal, $weights:literal) => {
        concat!($product, " tmm", $sums, ", tmm", $x, ", tmm", $weights, "\n")
    };
}

#[expect(clippy::unused_self, reason = "it proves that tiles are set up")]
impl Tiles {
    #[inline(always)]
    pub(crate) fn avx512(&self) -> Avx512 {
        self.amx.0
    }

    /// The tokens that the tiles are set up for.
    #[inline(always)]
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Starts the products of the signed bytes of each token with those of two groups of sixteen rows, for one or two tiles of columns: the sums of
    /// group `g` and tile `t` will be in the tile of sums `2 * g + t`. The bytes of a token begin `stride` behind those of the token before.
    ///
    /// # Safety
    /// Each `x` is readable for the tokens and columns that the tiles are set up for.
    #[inline(always)]
    pub(crate) unsafe fn multiply_each(&self, x: &[*const i8], stride: usize, weights: [&[WeightLine]; 2]) {
        let lines = self.columns / 4;
        let [first, second] =
            [weights[0][..x.len() * lines].as_ptr(), weights[1][..x.len() * lines].as_ptr()];
        // SAFETY: `self` proves AMX and that the tiles are set up; each `x` is readable (the caller), and the weights have a
        // line for each row of the tiles.
        unsafe {
            match *x {
                [x0, x1] => asm!(
                    "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                    load!("0", "{x0}", "stride"),
                    load!("2", "{w00}", "line"), add_product!("tdpbssd", "4", "0", "2"),
                    load!("3", "{w10}", "line"), add_product!("tdpbssd", "6", "0", "3"),
                    load!("1", "{x1}", "stride"),
                    load!("2", "{w01}", "line"), add_product!("tdpbssd", "5", "1", "2"),
                    load!("3", "{w11}", "line"), add_product!("tdpbssd", "7", "1", "3"),
                    x0 = in(reg) x0, x1 = in(reg) x1,
                    w00 = in(reg) first, w01 = in(reg) first.wrapping_add(lines),
                    w10 = in(reg) second, w11 = in(reg) second.wrapping_add(lines),
                    line = in(reg) 64usize, stride = in(reg) stride,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly, preserves_flags),
                ),
                [x0] => asm!(
                    "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                    load!("0", "{x0}", "stride"),
                    load!("2", "{w0}", "line"), add_product!("tdpbssd", "4", "0", "2"),
                    load!("3", "{w1}", "line"), add_product!("tdpbssd", "6", "0", "3"),
                    x0 = in(reg) x0, w0 = in(reg) first, w1 = in(reg) second,
                    line = in(reg) 64usize, stride = in(reg) stride,
                    out("tmm0") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly, preserves_flags),
                ),
                _ => unreachable!("one or two tiles of columns"),
            }
        }
    }

    /// Starts the products of the signed bytes of each token with two planes of weights of two groups of sixteen rows, over four tiles of columns:
    /// `planes[group]`, the second behind the first, signed bytes if `SIGNED`, unsigned otherwise. The sums will be in the tile of sums `2 * group + plane`. The
    /// bytes of a token begin `stride` behind those of the token before.
    ///
    /// # Safety
    /// `x` is readable for the tokens that the tiles are set up for, and four times their columns.
    #[inline(always)]
    pub(crate) unsafe fn multiply_planes<const SIGNED: bool>(
        &self,
        x: *const i8,
        stride: usize,
        planes: [&[WeightLine; 2 * TILE_COLUMNS]; 2],
    ) {
        assert_eq!(self.columns, TILE_COLUMNS, "full tiles");
        macro_rules! column_tile {
            ($product:literal, $x:literal, $column:literal, $line:literal) => {
                concat!(
                    "tileloadd tmm",
                    $x,
                    ", [{x} + {stride} + ",
                    $column,
                    "]\n",
                    "tileloadd tmm2, [{p00} + {line} + ",
                    $line,
                    "]\n",
                    add_product!($product, "4", $x, "2"),
                    "tileloadd tmm3, [{p10} + {line} + ",
                    $line,
                    "]\n",
                    add_product!($product, "6", $x, "3"),
                    "tileloadd tmm2, [{p01} + {line} + ",
                    $line,
                    "]\n",
                    add_product!($product, "5", $x, "2"),
                    "tileloadd tmm3, [{p11} + {line} + ",
                    $line,
                    "]\n",
                    add_product!($product, "7", $x, "3"),
                )
            };
        }
        macro_rules! multiply {
            ($product:literal) => {
                asm!(
                    "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                    column_tile!($product, "0", "0", "0"),
                    column_tile!($product, "1", "64", "1024"),
                    column_tile!($product, "0", "128", "2048"),
                    column_tile!($product, "1", "192", "3072"),
                    x = in(reg) x, stride = in(reg) stride, line = in(reg) 64usize,
                    p00 = in(reg) planes[0].as_ptr(), p01 = in(reg) planes[0][TILE_COLUMNS..].as_ptr(),
                    p10 = in(reg) planes[1].as_ptr(), p11 = in(reg) planes[1][TILE_COLUMNS..].as_ptr(),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly, preserves_flags),
                )
            };
        }
        // SAFETY: as in `multiply_each`.
        unsafe {
            if SIGNED {
                multiply!("tdpbssd");
            } else {
                multiply!("tdpbsud");
            }
        }
    }

    /// Writes the four tiles of sums of the products that were started last. Who asks for them at once waits for them, and with him whatever
    /// stores behind.
    #[inline(always)]
    pub(crate) fn store_sums(&self, sums: &mut [Sums; 4]) {
        // SAFETY: `self` proves AMX and that the tiles are set up; there is room for sixteen tokens each. Tiles keep what the last
        // product left in them, as no compiler uses them and nothing else here does.
        unsafe {
            asm!(
                "tilestored [{sums} + {line}], tmm4",
                "tilestored [{sums} + {line} + 1024], tmm5",
                "tilestored [{sums} + {line} + 2048], tmm6",
                "tilestored [{sums} + {line} + 3072], tmm7",
                sums = in(reg) sums.as_mut_ptr(), line = in(reg) 64usize,
                options(nostack, preserves_flags),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: `self` proves AMX. Released tiles cost nothing when the system switches threads.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}

/// What only products in tiles need of vectors.
#[expect(clippy::unused_self, reason = "it proves AVX-512")]
impl Avx512 {
    /// The sums of one token.
    #[inline(always)]
    pub(crate) fn load_sums(self, sums: &[i32; GROUP]) -> __m512i {
        // SAFETY: `self` proves AVX-512; the array has 64 bytes; the load may be unaligned.
        unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) }
    }

    #[inline(always)]
    pub(crate) fn store_line(self, bytes: __m512i, line: &mut WeightLine) {
        // SAFETY: `self` proves AVX-512; a line has 64 bytes and lies at a multiple of 64.
        unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), bytes) }
    }

    /// `bytes`, less `offset` each.
    #[inline(always)]
    pub(crate) fn less(self, bytes: __m512i, offset: u8) -> __m512i {
        // SAFETY: `self` proves AVX-512BW.
        unsafe { _mm512_sub_epi8(bytes, _mm512_set1_epi8(offset as i8)) }
    }

    /// The lower `bits` bits of factors below 64, and those above, each in both words of its lane.
    #[inline(always)]
    pub(crate) fn split_factor(self, factor: __m512i, bits: u32) -> [__m512i; 2] {
        // SAFETY: `self` proves AVX-512.
        unsafe {
            let twice = self.factor_words(factor);
            let low = _mm512_and_si512(twice, _mm512_set1_epi16((1 << bits) - 1));
            [low, _mm512_srl_epi16(twice, _mm_cvtsi32_si128(bits as i32))]
        }
    }

    /// Factors in both words of their lanes.
    #[inline(always)]
    pub(crate) fn factor_words(self, factor: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512BW.
        unsafe { _mm512_mask_blend_epi16(0xaaaa_aaaa, factor, _mm512_slli_epi32::<16>(factor)) }
    }

    /// Unsigned `bytes`, each times the word of `words` that it is part of. No product exceeds a byte.
    #[inline(always)]
    pub(crate) fn scale_bytes(self, bytes: __m512i, words: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512BW.
        unsafe { _mm512_mullo_epi16(bytes, words) }
    }

    /// Signed `bytes` times signed `words`: the lower 7 bits of the products, and what is above them, which fits a signed byte.
    #[inline(always)]
    pub(crate) fn scale_signed_bytes(self, bytes: __m512i, words: __m512i) -> [__m512i; 2] {
        // SAFETY: `self` proves AVX-512BW.
        unsafe {
            let even = _mm512_mullo_epi16(_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(bytes)), words);
            let odd = _mm512_mullo_epi16(_mm512_srai_epi16::<8>(bytes), words);
            // Bytes of the first where the mask has ones, of the second elsewhere.
            let even_bytes = _mm512_set1_epi16(0xff);
            let low = _mm512_ternarylogic_epi32::<0xca>(even_bytes, even, _mm512_slli_epi16::<8>(odd));
            let high = _mm512_ternarylogic_epi32::<0xca>(
                even_bytes,
                _mm512_srai_epi16::<7>(even),
                _mm512_slli_epi16::<1>(odd),
            );
            [_mm512_and_si512(low, _mm512_set1_epi8(127)), high]
        }
    }
}

/// Whether the CPU has tiles with byte products, and the system saves them.
fn has_tiles() -> bool {
    /// XCR0: the tiles' configuration and their data.
    const TILE_STATE: u64 = 0b11 << 17;
    /// Leaf 7, EDX: AMX-TILE and AMX-INT8.
    const TILE_FEATURES: u32 = 0b11 << 24;
    /// Leaf 1, ECX: the system has switched XSAVE on.
    const SYSTEM_USES_XSAVE: u32 = 1 << 27;
    #[target_feature(enable = "xsave")]
    fn enabled_state() -> u64 {
        // SAFETY: the CPU has XSAVE, and the system uses it (the caller).
        unsafe { _xgetbv(0) }
    }
    if !is_x86_feature_detected!("xsave") || __cpuid(1).ecx & SYSTEM_USES_XSAVE == 0 || __cpuid(0).eax < 7 {
        return false;
    }
    // SAFETY: the CPU has XSAVE, and the system uses it.
    let enabled = unsafe { enabled_state() };
    __cpuid_count(7, 0).edx & TILE_FEATURES == TILE_FEATURES && enabled & TILE_STATE == TILE_STATE
}

/// Asks the system to let this process use tiles: it saves 8 KiB more for a thread that does.
#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    /// `ARCH_REQ_XCOMP_PERM`, and the state it asks for (Linux, Documentation/arch/x86/xstate.rst).
    const REQUEST_PERMISSION: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call changes nothing but the permission.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 }
}

/// How to ask other systems is not known here.
#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}
