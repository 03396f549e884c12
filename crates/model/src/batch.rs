//! What must hold of a batch before a pass over it, on any device.

use crate::language_model::{Accepted, ForwardError, OutOfCacheMemory, SequenceStep};
use crate::pass_cache::PassCache;

/// Checks that the model knows the tokens of all trees and that they fit into their caches, then takes the memory that a pass over
/// them needs. `positions` is how many positions the model has embeddings for.
pub(crate) fn begin<C: PassCache>(
    batch: &mut [SequenceStep<'_, C>],
    vocabulary_size: usize,
    positions: usize,
) -> Result<(), ForwardError> {
    for step in &*batch {
        if let Some(&token) = step.tree.tokens().iter().find(|&&token| token as usize >= vocabulary_size) {
            return Err(ForwardError::UnknownToken { token, vocabulary_size });
        }
        let capacity = step.cache.capacity().min(positions);
        let (committed, new) = (step.cache.len(), step.tree.len());
        if new > capacity.saturating_sub(committed) {
            return Err(ForwardError::CacheFull { capacity, committed, new });
        }
    }
    Ok(reserve(batch)?)
}

/// Takes the memory that the pass needs, or none if there is not enough for all.
fn reserve<C: PassCache>(batch: &mut [SequenceStep<'_, C>]) -> Result<(), OutOfCacheMemory> {
    let Some((step, others)) = batch.split_first_mut() else { return Ok(()) };
    let pages = step.cache.page_count();
    let certain = step.certain();
    step.cache.reserve(certain, step.tree.len() - certain)?;
    reserve(others).inspect_err(|_| step.cache.keep_pages(pages))
}

/// Makes the accepted path of each sequence part of its context.
pub(crate) fn commit<C: PassCache>(batch: &mut [Accepted<'_, C>]) {
    for Accepted { cache, path } in batch {
        cache.commit(path);
    }
}
