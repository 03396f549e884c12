//! Why a model does not run on a GPU.

use lookahead_gpu::GpuError;
use lookahead_kernels::PAGE_ROWS;

use super::split::GpuFit;
use crate::language_model::ForwardError;

/// Why a model does not run on a GPU.
#[derive(Debug, thiserror::Error)]
pub enum GpuModelError {
    /// Its layers cannot be parted so.
    #[error(
        "{family} cannot be parted so that the GPU computes {layers} of its layers: --gpu-layers {fewest} is the least"
    )]
    NotParted {
        /// The family of the model.
        family: &'static str,
        /// Layers that the GPU was to compute.
        layers: usize,
        /// How many it must compute then, at least.
        fewest: usize,
    },
    /// It does not fit.
    #[error(
        "the model does not fit: its weights take {} bytes there and keys and values {} a token, and {name} has {memory_bytes} bytes; \
         {}, a smaller quantization may fit",
        .whole.weight_bytes,
        .whole.token_bytes,
        advice(.fit)
    )]
    TooLarge {
        /// The layers that were to be there.
        whole: GpuFit,
        /// What fits.
        fit: GpuFit,
        /// Bytes of the GPU's memory.
        memory_bytes: u64,
        /// The GPU.
        name: String,
    },
    /// There is no room for KV caches of the size asked for.
    #[error(
        "{bytes} bytes for KV caches do not fit {name}: beside the weights, --kv-memory {most_bytes} is the most"
    )]
    NoRoom {
        /// What was asked for.
        bytes: usize,
        /// What there is room for.
        most_bytes: usize,
        /// The GPU.
        name: String,
    },
    /// KV caches of the size asked for do not fit.
    #[error("{bytes} bytes are too few for KV caches: a page of {PAGE_ROWS} tokens takes {page_bytes}")]
    NoPage {
        /// What was asked for.
        bytes: usize,
        /// Bytes of a page.
        page_bytes: usize,
    },
    /// The GPU fails.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// It fails in the first pass.
    #[error(transparent)]
    FirstPass(#[from] ForwardError),
}

/// What to do where a model does not fit.
fn advice(fit: &GpuFit) -> String {
    match fit.fitting {
        0 => "--device cpu computes all of it on the CPU".to_owned(),
        layers => format!("--gpu-layers {layers} leaves the other {} layers to the CPU", fit.layers - layers),
    }
}
