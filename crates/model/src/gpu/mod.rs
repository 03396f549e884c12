//! Models on GPUs: what of a model a GPU computes, its caches, and its passes.

mod cache;
mod error;
mod model;
mod pages;
mod pools;
mod split;

pub use self::cache::GpuCache;
pub(crate) use self::cache::cpu_steps;
pub use self::error::GpuModelError;
pub use self::model::{GpuModel, gpu_fit};
pub(crate) use self::pages::GpuPages;
pub use self::split::GpuFit;
