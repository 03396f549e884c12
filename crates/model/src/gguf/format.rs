//! What all GGUF files have in common.

/// The bytes that every GGUF file starts with.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";

/// Tensor bytes start at multiples of this unless `general.alignment` says otherwise.
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;

/// The metadata key that sets the alignment of tensor bytes.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

/// Most dimensions that a tensor can have.
pub(super) const MAX_DIMENSIONS: usize = 4;

/// The numbers that the format gives its value types.
pub(super) mod value_type {
    pub(in crate::gguf) const U8: u32 = 0;
    pub(in crate::gguf) const I8: u32 = 1;
    pub(in crate::gguf) const U16: u32 = 2;
    pub(in crate::gguf) const I16: u32 = 3;
    pub(in crate::gguf) const U32: u32 = 4;
    pub(in crate::gguf) const I32: u32 = 5;
    pub(in crate::gguf) const F32: u32 = 6;
    pub(in crate::gguf) const BOOL: u32 = 7;
    pub(in crate::gguf) const STRING: u32 = 8;
    pub(in crate::gguf) const ARRAY: u32 = 9;
    pub(in crate::gguf) const U64: u32 = 10;
    pub(in crate::gguf) const I64: u32 = 11;
    pub(in crate::gguf) const F64: u32 = 12;
}
