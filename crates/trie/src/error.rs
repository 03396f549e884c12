//! What can go wrong: a configuration out of range, a draft that is no tree, a trie file that cannot be used.

use std::io;

use crate::{MAX_BRANCH_LENGTH, MIN_BRANCH_LENGTH, MIN_BYTES};

/// The errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrieError {
    /// `TrieConfig::branch_length` is out of range.
    #[error("branch length {0} is out of range: {MIN_BRANCH_LENGTH} to {MAX_BRANCH_LENGTH} tokens")]
    BranchLength(usize),
    /// A memory bound of `TrieConfig` is too small to work with.
    #[error("a memory bound of {0} bytes is too small for a trie: at least {MIN_BYTES} bytes are needed")]
    MaxBytes(usize),
    /// The parts given to `DraftTree::new` are no tree.
    #[error("not a draft tree: {0}")]
    NotATree(&'static str),
    /// Reading or writing failed.
    #[error("trie file: {0}")]
    Io(#[from] io::Error),
    /// The file does not begin as a trie file does.
    #[error("not a trie file: it does not begin with \"LKTRIE\"")]
    NotATrieFile,
    /// The file's format is of another version.
    #[error("trie file: format version {found} is not supported; this build reads version {supported}")]
    Version {
        /// Version in the file.
        found: u16,
        /// The version that this build reads.
        supported: u16,
    },
    /// The file's token ids are those of another tokenizer.
    #[error(
        "trie file: made with another tokenizer (fingerprint {found:016x}, this model has {expected:016x}); \
         use a trie file of this model, or a new one"
    )]
    Fingerprint {
        /// Fingerprint in the file.
        found: u64,
        /// Fingerprint given by the caller.
        expected: u64,
    },
    /// The file ends before its content does.
    #[error("trie file: truncated after {nodes} nodes")]
    Truncated {
        /// Nodes read until then.
        nodes: u64,
    },
    /// The file's content contradicts itself.
    #[error("trie file: corrupt at node {node}: {reason}")]
    Corrupt {
        /// Index of the node, in file order.
        node: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file's checksum does not match its content.
    #[error("trie file: corrupt: checksum {computed:016x} of the content, {stored:016x} stored")]
    Checksum {
        /// Checksum at the end of the file.
        stored: u64,
        /// Checksum of what was read.
        computed: u64,
    },
}
