//! Weight matrices: repacked once at load into the order in which the kernels read them.
//!
//! Sixteen rows are interleaved, so that the lanes of a vector are rows: every output element is then summed in its own
//! lane, column by column, and no sum depends on the vector's width. A product reads each weight from memory once for
//! all tokens.

mod best;
mod dense;
mod output;
mod pack;
mod packed;
mod packed_form;
mod prefetch;
mod product;
mod quantized;
mod tiles;

pub use self::best::{Candidate, Keep, Kept, KeptScratch, multiply_kept};
pub use self::packed::Matrix;
pub use self::packed_form::{CodeForm, PackedForm};
pub(crate) use self::prefetch::PREFETCH_BYTES;
pub use self::product::multiply;
