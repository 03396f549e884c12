//! What can go wrong: a bound out of range, a draft that is no tree, a file that cannot be used.

use std::io;
use std::path::PathBuf;

/// The smallest bound of a namespace, in bytes.
pub const MIN_BYTES: usize = 1 << 20;

/// The errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrieError {
    /// A memory bound is too small to work with.
    #[error("a memory bound of {0} bytes is too small for drafts: at least {MIN_BYTES} bytes are needed")]
    MaxBytes(usize),
    /// No files were given to be merged.
    #[error("there are no files of drafts to merge; at least one is needed")]
    NothingToMerge,
    /// The parts given to `DraftTree::new` are no tree.
    #[error("not a draft tree: {0}")]
    NotATree(&'static str),
    /// A file cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        problem: FileProblem,
    },
}

/// Why a file of drafts cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is no room for a copy of the file, or it cannot be made.
    #[error(
        "cannot copy its {bytes} bytes to {}, which is done so that nobody changes them while they are used: {source}; set \
         TMPDIR to a directory on a local disk with as much room", directory.display()
    )]
    Copy {
        /// Bytes of the file.
        bytes: u64,
        /// Where the copy was to be.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file does not begin as one of ours does.
    #[error("not a file of drafts: it does not begin with \"LKDRAFTS\"")]
    NotADraftFile,
    /// The file does not begin as a journal does.
    #[error(
        "not a journal of drafts: it does not begin with \"LKDRJRNL\"; move it away, as drafts are kept in it"
    )]
    NotAJournal,
    /// The file's format is of another version.
    #[error("format version {found} is not supported; this build reads version {supported}")]
    Version {
        /// Version in the file.
        found: u32,
        /// The version that this build reads.
        supported: u32,
    },
    /// The file's token ids are those of another tokenizer.
    #[error(
        "made with another tokenizer (fingerprint {found:016x}, this one has {expected:016x}); use a file of this \
         model, or a new one"
    )]
    Fingerprint {
        /// Fingerprint in the file.
        found: u64,
        /// Fingerprint given by the caller.
        expected: u64,
    },
    /// The file ends before its content does.
    #[error("truncated: {found} bytes instead of {expected}")]
    Truncated {
        /// Bytes that there should be, at least.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// The file's content contradicts itself.
    #[error("corrupt: {0}")]
    Corrupt(&'static str),
    /// A namespace has as many corpora as it can.
    #[error("a namespace takes no more than {0} corpora; merge some of them into one")]
    TooManyCorpora(usize),
    /// A checksum does not match the content.
    #[error("corrupt: the checksum of its {0} does not match")]
    Checksum(&'static str),
}

impl FileProblem {
    /// The error of the file at `path`.
    pub(crate) fn of(self, path: &std::path::Path) -> TrieError {
        TrieError::File { path: path.to_owned(), problem: self }
    }
}
