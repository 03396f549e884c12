//! Bit-exact CPU kernels for transformer inference: matrix products with quantized weights, attention over trees,
//! norms, rotary embeddings, activations.
//!
//! **Contract.** The result of every operator is defined value by value, in one canonical order of additions (see each
//! module). It does not depend on the instruction set, the number of threads, or how many tokens are computed together.
//! The scalar code is the definition; vector code is tested against it for equality of bits.
//!
//! `unsafe` is confined to `simd` (instructions, behind tokens that prove the CPU has them), `pool` (sharing a job
//! with threads), `arena` (memory that matrices share) and `disjoint` (the writes of parallel tasks).
//!
//! ```
//! use lookahead_kernels::{Activations, InputCodes, Kernels, Matrix, WeightArena, WeightType, multiply};
//!
//! let kernels = Kernels::new(2);
//! let weights: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|w| w.to_le_bytes()).collect();
//! let matrix = Matrix::pack(&kernels, &mut WeightArena::new(), WeightType::F32, [2, 2], &weights)?;
//! let mut x = Activations::new();
//! x.compute(&kernels, [1, 2], InputCodes::NONE, [], 0, |_, [], row| row.copy_from_slice(&[10.0, 1.0]));
//! let mut out = [0.0; 2];
//! multiply(&kernels, &x, [(&matrix, &mut out)]);
//! assert_eq!(out, [12.0, 34.0]);
//! # Ok::<(), lookahead_kernels::MatrixError>(())
//! ```

mod activations;
mod arena;
mod attention;
mod block;
mod ceilings;
mod disjoint;
mod elementwise;
mod grid_blocks;
mod grids;
mod kernels;
mod math;
mod matrix;
mod matrix_error;
mod pool;
mod quantize;
mod recurrence;
mod rope;
mod simd;
mod sync;
mod weight_type;

pub use activations::{Activations, InputCodes};
pub use arena::WeightArena;
pub use attention::{
    Attended, AttentionScratch, AttentionShape, CHUNK as ATTENTION_CHUNK, KvLayer, KvLayout, KvPage, KvShape,
    KvType, PAGE_ROWS, UnknownKvType, VisibleRows, Window, alibi_slope, attention,
};
pub use block::dequantize_row;
// No part of the interface: what tests define products with.
#[doc(hidden)]
pub use block::{Block, decode_block};
pub use ceilings::Ceilings;
pub use elementwise::{
    Activation, activate, add, add_scaled, gate, keep_outliers, layer_norm_in_place, match_magnitude,
    rms_norm, rms_norm_in_place, scale, scale_each, soft_cap,
};
pub use kernels::Kernels;
pub use math::{exp, exp_unfused, sigmoid, softplus, tanh};
pub use matrix::{Candidate, CodeForm, Keep, Kept, KeptScratch, Matrix, PackedForm, multiply, multiply_kept};
pub use matrix_error::MatrixError;
pub use quantize::quantize_row;
pub use recurrence::{
    RecurrenceShape, ScanPlan, StateRule, causal_convolution, exp_of_product, recur, unit_length,
};
pub use rope::{RopePairs, RopeTable, rope_frequencies};
pub use simd::Isa;
pub use weight_type::WeightType;
