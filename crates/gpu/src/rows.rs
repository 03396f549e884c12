//! Rows of a pass, and their codes.

use crate::pass::Pass;

/// Rows of floats, one a token, side by side: where they lie in a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The first float.
    pub at: usize,
    /// Floats of a row.
    pub width: usize,
    /// Rows.
    pub count: usize,
}

impl Rows {
    /// Room for `count` rows of `width` floats.
    pub fn new(pass: &mut Pass, count: usize, width: usize) -> Self {
        Self { at: pass.floats(count * width), width, count }
    }

    /// Floats of all rows.
    pub fn len(&self) -> usize {
        self.width * self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where the codes of rows lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    /// Words of four codes: `[token][column / 4]`
    pub(crate) quads: usize,
    /// Words, the sums of each sixteen codes: `[token][column / 16]`
    pub(crate) sums: usize,
    /// Floats. Of 32 columns: the scale, and the scale times the sum of all codes. Of 256: the scale.
    pub(crate) scales: usize,
}

/// Rows that a matrix is multiplied with, quantized as its weights need them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// The rows themselves.
    pub values: Rows,
    /// Quantized, a scale to every 32 columns.
    pub blocks: Option<Codes>,
    /// Quantized, a scale to every 256 columns.
    pub super_blocks: Option<Codes>,
}

impl Codes {
    /// Room for the codes of `count` rows of `width` values, or of fewer, with a scale to every `columns`: 32 or 256.
    pub fn new(pass: &mut Pass, count: usize, width: usize, columns: usize) -> Self {
        Self {
            quads: pass.words(count * width / 4),
            sums: pass.words(count * width / 16),
            scales: pass.floats(count * width / columns * if columns == 256 { 1 } else { 2 }),
        }
    }
}

impl Input {
    /// Rows without codes.
    pub(crate) fn unquantized(values: Rows) -> Self {
        Self { values, ..Self::default() }
    }

    /// The `count` rows from row `first` on.
    #[must_use]
    pub fn part(&self, first: usize, count: usize) -> Self {
        let width = self.values.width;
        let codes = |codes: Option<Codes>, scales: usize| {
            codes.map(|Codes { quads, sums, scales: at }| Codes {
                quads: quads + first * width / 4,
                sums: sums + first * width / 16,
                scales: at + first * scales,
            })
        };
        Self {
            values: Rows { at: self.values.at + first * width, width, count },
            blocks: codes(self.blocks, width / 32 * 2),
            super_blocks: codes(self.super_blocks, width / 256),
        }
    }

    /// Whether there are codes.
    pub(crate) fn is_quantized(&self) -> bool {
        self.forms().contains(&true)
    }

    /// Which codes there are.
    pub(crate) fn forms(&self) -> [bool; 2] {
        [self.blocks.is_some(), self.super_blocks.is_some()]
    }

    /// The part of an operator's shader that quantizes the rows.
    pub(crate) fn quantize_source(&self) -> String {
        let [has_blocks, has_super_blocks] = self.forms();
        format!(
            "const HAS_BLOCKS: bool = {has_blocks};\nconst HAS_SUPER_BLOCKS: bool = {has_super_blocks};\n{}",
            include_str!("shaders/quantize.wgsl")
        )
    }

    /// The last parameters of an operator that quantizes the rows: where their codes lie.
    ///
    /// # Panics
    /// If rows are no whole blocks of what there are codes for.
    pub(crate) fn parameters(&self) -> [u32; 6] {
        let [blocks, super_blocks] = [(self.blocks, 32), (self.super_blocks, 256)].map(|(codes, columns)| {
            let is_whole = codes.is_none() || self.values.width.is_multiple_of(columns);
            assert!(is_whole, "quantized rows are whole blocks of {columns}");
            let Codes { quads, sums, scales } = codes.unwrap_or_default();
            [quads, sums, scales].map(|place| place as u32)
        });
        let ([a, b, c], [d, e, f]) = (blocks, super_blocks);
        [a, b, c, d, e, f]
    }
}
