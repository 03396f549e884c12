//! The GPU that tests run on.

use std::sync::{Arc, OnceLock};

use lookahead_gpu::{Gpu, GpuError, Memory, Pass, choose};

/// A GPU, and what it computes with.
pub(crate) struct Bench {
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) memory: Memory,
    pub(crate) pass: Pass,
}

/// A bench of the first GPU; `None`, and a word, where there is none.
pub(crate) fn bench() -> Option<Bench> {
    static GPU: OnceLock<Option<Arc<Gpu>>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| match choose(None) {
        Ok(listing) => Some(Arc::new(Gpu::open(&listing).unwrap())),
        Err(error @ GpuError::NoAdapter) => {
            eprintln!("nothing is tested: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    });
    let gpu = Arc::clone(gpu.as_ref()?);
    let memory = Memory::new(&gpu).unwrap();
    Some(Bench { gpu, memory, pass: Pass::default() })
}

/// Floats as bits, to be compared; what is no number counts as one.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { u32::MAX } else { value.to_bits() }).collect()
}
