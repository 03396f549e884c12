//! Where a drafted token came from.

/// What a drafted token was taken from. Of a namespace: where the longest match of its context was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum DraftOrigin {
    /// The request's own text: its prompt and its output so far.
    Prompt,
    /// Texts that the request came with: a predicted output, documents.
    Reference,
    /// What the namespace shares: outputs of other requests, and its file.
    Output,
    /// A corpus.
    Corpus,
    /// Tokens that the model held likely where the same tokens stood before.
    RunnersUp,
    /// A constraint of the engine that leaves no choice. No namespace drafts it.
    Constraint,
    /// A drafter that does not say. No namespace drafts it.
    Other,
}

impl DraftOrigin {
    /// Every origin.
    pub const ALL: [Self; 7] = [
        Self::Prompt,
        Self::Reference,
        Self::Output,
        Self::Corpus,
        Self::RunnersUp,
        Self::Constraint,
        Self::Other,
    ];
}
