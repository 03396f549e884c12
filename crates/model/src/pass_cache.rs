//! What a forward pass asks of a sequence's cache, wherever that lies.

use crate::language_model::Cache;
use crate::recurrent_states::RecurrentStates;

/// A cache that passes write to.
pub(crate) trait PassCache: Cache {
    /// Pages that it has.
    fn page_count(&self) -> usize;

    /// Gives back all but the first `pages` pages.
    fn keep_pages(&mut self, pages: usize);

    /// Drops what is pending and makes `nodes` reserved rows pending instead, for a pass to fill. The first `certain`
    /// of them are a part of a prompt; `is_last` says whether it ends with them.
    fn begin(&mut self, nodes: usize, certain: usize, is_last: bool);

    /// The states of recurrent layers.
    fn states(&mut self) -> &mut RecurrentStates;

    /// Commits the pending rows `path`, moved together, and drops the others.
    ///
    /// # Panics
    /// If `path` names a node that is not pending, or does not ascend.
    fn commit(&mut self, path: &[u32]);
}
