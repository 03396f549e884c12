//! Where a file's bytes live: mapped from disk, or in memory.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// The bytes of a model file.
pub(crate) enum Source {
    Mapped(Mmap),
    Memory(Vec<u8>),
}

impl Source {
    /// Maps a regular file, read-only.
    pub(crate) fn map(path: &Path) -> io::Result<Self> {
        // Asked before opening: opening a pipe would wait for its writer.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        // SAFETY: the mapping is read-only and private to this value. Bytes under a `&[u8]` must not change, which no
        // program can rule out for a file; `GgufFile::open` documents that whoever opens a model must leave it
        // unchanged meanwhile, as every program that maps files relies on.
        let mapping = unsafe { Mmap::map(&file)? };
        Ok(Self::Mapped(mapping))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(mapping) => mapping,
            Self::Memory(bytes) => bytes,
        }
    }

    /// Drops the file's pages from this process; reading them again loads them from the file.
    pub(crate) fn release_pages(&self) {
        #[cfg(unix)]
        if let Self::Mapped(mapping) = self {
            // SAFETY: the advice is unchecked because it empties writable and anonymous mappings. This one is
            // read-only and backed by a file, so dropped pages come back with the same bytes, and slices that point
            // into them stay true.
            let advised = unsafe { mapping.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            if let Err(error) = advised {
                tracing::debug!(%error, "pages not released"); // a hint: nothing depends on it
            }
        }
    }
}
