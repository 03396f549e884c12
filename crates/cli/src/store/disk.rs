//! What can go wrong with a disk, in words that say what to do.

use std::io;
use std::path::Path;

use anyhow::bail;
use indicatif::DecimalBytes;

use super::model_store::CACHE_VARIABLE;

/// Whether `error` can only come from writing to a disk, not from a network.
pub(super) fn is_disk_error(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | PermissionDenied | ReadOnlyFilesystem)
}

/// Says what `error`, which came from writing `path`, means for the user.
pub(super) fn explain(error: io::Error, path: &Path) -> anyhow::Error {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let path = path.display();
    let message = match error.kind() {
        StorageFull | QuotaExceeded => format!(
            "the disk is full: {path}\n\
             Free some space there, or set {CACHE_VARIABLE} to a directory on another disk"
        ),
        PermissionDenied | ReadOnlyFilesystem => format!(
            "no permission to write {path}\n\
             Make the directory writable, or set {CACHE_VARIABLE} to one that is"
        ),
        _ => format!("cannot write {path}"),
    };
    anyhow::Error::new(error).context(message)
}

/// Fails if the disk that holds `directory` has less than `needed_bytes` left.
pub(super) fn require_space(directory: &Path, needed_bytes: u64) -> anyhow::Result<()> {
    // Some network file systems answer 0 or nothing at all: then the write itself has to tell.
    let free_bytes = fs4::available_space(directory).unwrap_or(0);
    if free_bytes > 0 && free_bytes < needed_bytes {
        bail!(
            "the disk is too full: {} are needed in {} and {} are free\n\
             Free some space there, or set {CACHE_VARIABLE} to a directory on another disk",
            DecimalBytes(needed_bytes),
            directory.display(),
            DecimalBytes(free_bytes),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_with_the_way_out() {
        let error = explain(io::ErrorKind::StorageFull.into(), Path::new("/m/x.gguf")).to_string();
        assert!(error.starts_with("the disk is full: /m/x.gguf"), "{error}");
        assert!(error.contains("LOOKAHEAD_CACHE"), "{error}");
    }

    #[test]
    fn space_is_refused_only_where_it_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        assert!(require_space(directory.path(), 1).is_ok());
        let error = require_space(directory.path(), u64::MAX).unwrap_err().to_string();
        assert!(error.starts_with("the disk is too full"), "{error}");
    }
}
