//! Why drafts cannot be made or kept.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use lookahead_trie::TrieError;

/// Why drafts cannot be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum DraftStoreError {
    /// A name with other characters than names may have.
    #[error("{what}: {name:?} is no name: up to 64 letters, digits, `-`, `_` and `.` are")]
    Name {
        /// What is called by it.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A corpus is more than its tenant may send.
    #[error("the corpus {corpus:?} is refused: {limit}")]
    TooMuch {
        /// Its name.
        corpus: String,
        /// What it would break.
        limit: CorpusLimit,
    },
    /// The tenant sends a corpus already.
    #[error("another corpus of this key is being sent; send one after the other")]
    UploadInProgress,
    /// A corpus could not be written.
    #[error("the corpus {corpus:?} cannot be kept: {problem}")]
    NotKept {
        /// Its name.
        corpus: String,
        /// What went wrong.
        problem: Box<DraftStoreError>,
    },
    /// A file of drafts cannot be read or written.
    #[error(transparent)]
    Trie(#[from] TrieError),
    /// Another file or a directory.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What bounds a tenant's corpora.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorpusLimit {
    /// Bytes of one of them, with its index.
    Size(usize),
    /// Bytes of all of them.
    Disk(u64),
    /// How many there may be.
    Number(usize),
}

impl fmt::Display for CorpusLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(bytes) => write!(
                f,
                "with its index it would take more than the {bytes} bytes of --max-corpus; send it in parts"
            ),
            Self::Disk(bytes) => write!(
                f,
                "the corpora of this key would take more than the {bytes} bytes of --corpora-quota; remove some"
            ),
            Self::Number(most) => {
                write!(f, "this key has {most} corpora, as many as --max-corpora allows; remove some")
            }
        }
    }
}

/// Names the file or directory in an error of the system.
pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> DraftStoreError {
    let path = path.to_owned();
    move |source| DraftStoreError::Io { path: path.clone(), source }
}
