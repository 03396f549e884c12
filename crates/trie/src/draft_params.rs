//! What may be drafted: how much, in which shape, out of what.

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

/// What drafts are taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DraftSource {
    /// The request's own text: its prompt, its references and its output so far.
    Prompt,
    /// What is shared: outputs of other requests, corpora, and runners-up.
    Output,
    /// Both, competing by estimated probability.
    #[default]
    Mixed,
}

/// What a draft may look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DraftParams {
    /// The most nodes, the root not counted.
    pub nodes: usize,
    /// The greatest depth of a node; the root's is 0.
    pub depth: usize,
    /// Nodes of a smaller estimated path probability are not drafted.
    pub min_probability: f32,
    /// How its branches are laid out.
    pub shape: DraftShape,
    /// What it is taken from.
    pub source: DraftSource,
}

impl Default for DraftParams {
    /// Sixteen nodes: what a forward pass on a CPU carries at little more than the price of one.
    fn default() -> Self {
        Self {
            nodes: 16,
            depth: 16,
            min_probability: 0.01,
            shape: DraftShape::Hierarchical,
            source: DraftSource::Mixed,
        }
    }
}
