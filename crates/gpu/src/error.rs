//! Why a GPU cannot be used.

/// Why a GPU cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// There is none.
    #[error(
        "no GPU was found: there is no driver for Vulkan (or Metal, on Apple's machines). The CPU computes with --device cpu; \
         on Linux, the packages of drivers are mesa-vulkan-drivers or the GPU maker's own"
    )]
    NoAdapter,
    /// None has this name.
    #[error("no GPU is called {choice:?}; there are: {}", numbered(known))]
    UnknownAdapter {
        /// What was asked for.
        choice: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// It lacks something.
    #[error("{name} cannot be used: {missing}")]
    Unusable {
        /// Its name.
        name: String,
        /// What it lacks.
        missing: &'static str,
    },
    /// Its driver does not open it.
    #[error("the driver does not open {name}: {source}")]
    NotOpened {
        /// Its name.
        name: String,
        /// What the driver says.
        source: wgpu::RequestDeviceError,
    },
    /// Its arithmetic is wrong, not only rounded otherwise.
    #[error("{name} computes wrongly: {what}")]
    ComputesWrongly {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// It has no memory left.
    #[error("{what} needs {bytes} bytes on the GPU, which has no memory for them")]
    OutOfMemory {
        /// What was to be stored.
        what: &'static str,
        /// How many.
        bytes: u64,
    },
    /// It has more bytes than an operator can see.
    #[error("{what} would have {bytes} bytes, and this GPU's operators see {limit} of a buffer")]
    TooLarge {
        /// What was to be stored.
        what: &'static str,
        /// How many.
        bytes: u64,
        /// How many there can be.
        limit: u64,
    },
    /// A pass is too large.
    #[error(
        "a pass is too large for this GPU: {what} come to {size}, and it takes {limit}; shorter chunks of prompts (--prefill-chunk) or \
         fewer requests at once help"
    )]
    PassTooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        size: u64,
        /// How much there can be.
        limit: u64,
    },
    /// It stopped in the middle of its work.
    #[error("the GPU stopped working: {0}")]
    Lost(String),
}

/// Names behind their numbers.
fn numbered(names: &[String]) -> String {
    let names: Vec<_> = names.iter().enumerate().map(|(number, name)| format!("{number}: {name}")).collect();
    names.join("; ")
}
