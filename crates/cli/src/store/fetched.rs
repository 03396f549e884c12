//! What a download comes to, wherever it comes from.

use std::path::PathBuf;

use super::digest::Digest;

/// A downloaded file that still lies in a temporary directory.
pub(super) struct Fetched {
    /// The file.
    pub(super) file: PathBuf,
    /// Its digest.
    pub(super) sha256: Digest,
}
