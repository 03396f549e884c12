//! What a draft may look like: its shape, its sources, its limits.

/// How the branches of a draft are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DraftShape {
    /// Branches that begin alike share their nodes: the most branches for the nodes spent.
    #[default]
    Hierarchical,
    /// Branches side by side from the root, each with all of its nodes.
    Parallel,
    /// The one branch that follows the likeliest token at every node.
    Single,
}

/// Which branches drafts are taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DraftSource {
    /// The request's private branches only: its prompt and its own output so far.
    Prompt,
    /// The shared branches only: outputs, of this and of other requests, and warm-up.
    Output,
    /// Both, competing by estimated probability.
    #[default]
    Mixed,
}

/// How to retrieve a draft.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetrievalParams {
    /// The most nodes to draft, the root not counted. 0 drafts nothing.
    pub draft_length: usize,
    /// The greatest depth of a drafted node; the root's is 0.
    pub branch_length: usize,
    /// The longest suffix of the context to match, in tokens. The trie's branch length less one is the most that can
    /// be matched; greater values mean that.
    pub match_length: usize,
    /// Nodes of a smaller estimated path probability are not drafted.
    pub min_probability: f32,
    /// Which branches to draft from.
    pub source: DraftSource,
    /// How to lay out the branches.
    pub shape: DraftShape,
}

impl Default for RetrievalParams {
    /// Sixteen nodes: what a forward pass on a CPU carries at little more than the price of one.
    fn default() -> Self {
        Self {
            draft_length: 16,
            branch_length: 16,
            match_length: usize::MAX,
            min_probability: 0.01,
            source: DraftSource::Mixed,
            shape: DraftShape::Hierarchical,
        }
    }
}
