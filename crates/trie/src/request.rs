//! What a request keeps for itself.

use crate::TokenId;
use crate::forest::{Forest, OpenBranches};
use crate::retrieve::Scratch;

/// Whether a request's output serves other requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutputSharing {
    /// Accepted output tokens go to the shared forest, as they come.
    #[default]
    Shared,
    /// Nothing of the request is ever seen by another.
    Private,
}

/// One request's side of the trie: its private forest, which holds its prompt and its output and which no other
/// request can reach, and the end of its context.
///
/// Made by [`DraftTrie::begin_request`](crate::DraftTrie::begin_request). When it is finished or dropped, its prompt
/// branches are gone.
pub struct RequestDrafts {
    pub(crate) private: Forest,
    pub(crate) private_open: OpenBranches,
    /// Where the output stands in the shared forest. No shared branch begins in the prompt.
    pub(crate) shared_open: OpenBranches,
    pub(crate) sharing: OutputSharing,
    /// The last tokens of prompt and output, as many as can be matched; at least the last one.
    pub(crate) context: Vec<TokenId>,
    context_length: usize,
    pub(crate) scratch: Scratch,
}

impl RequestDrafts {
    pub(crate) fn new(private: Forest, sharing: OutputSharing) -> Self {
        let context_length = private.max_match_length();
        Self {
            private,
            private_open: OpenBranches::default(),
            shared_open: OpenBranches::default(),
            sharing,
            context: Vec::with_capacity(2 * context_length),
            context_length,
            scratch: Scratch::default(),
        }
    }

    /// Adds tokens, of the prompt or accepted, to the private forest and to the context.
    pub(crate) fn extend(&mut self, tokens: &[TokenId]) {
        self.private.extend(&mut self.private_open, tokens);
        let tokens = &tokens[tokens.len().saturating_sub(self.context_length)..];
        let surplus = (self.context.len() + tokens.len()).saturating_sub(self.context_length);
        self.context.drain(..surplus);
        self.context.extend_from_slice(tokens);
    }

    /// Bytes that the private forest takes.
    pub fn bytes(&self) -> usize {
        self.private.bytes()
    }
}
