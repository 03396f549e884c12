//! Rows of a pass, with the room that they keep.

use lookahead_gpu::{Codes, Input, Pass, Rows};

/// Rows on the GPU.
#[derive(Debug, Default)]
pub(crate) struct GpuRows {
    pub(super) rows: Rows,
    /// Floats that there is room for, in the pass of this number.
    pub(super) room: usize,
    pub(super) number: u64,
}

/// The input of products on the GPU, with room of its own.
#[derive(Debug, Default)]
pub(crate) struct GpuInput {
    pub(super) input: Input,
    /// For rows that are not those of something else.
    pub(super) values: GpuRows,
    pub(super) blocks: CodesRoom,
    pub(super) super_blocks: CodesRoom,
}

/// Room for codes: of so many values, in the pass of this number.
#[derive(Debug, Default)]
pub(super) struct CodesRoom {
    pub(super) codes: Codes,
    pub(super) values: usize,
    pub(super) number: u64,
}

impl CodesRoom {
    /// Room for the codes of `rows` rows of `width` values.
    pub(super) fn make(
        &mut self,
        pass: &mut Pass,
        number: u64,
        [rows, width]: [usize; 2],
        columns: usize,
    ) -> Codes {
        if self.number != number || self.values < rows * width {
            let codes = Codes::new(pass, rows, width, columns);
            *self = Self { codes, values: rows * width, number };
        }
        self.codes
    }
}
