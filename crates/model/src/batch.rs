//! What must hold of a batch before a pass over it, on any device.

use crate::kv_cache::KvCache;
use crate::kv_pages::KvPages;
use crate::language_model::{Accepted, Cache, ForwardError, OutOfCacheMemory, SequenceStep};

/// Checks that the model knows the tokens of all trees and that they fit into their caches, then takes the memory that a pass over
/// them needs. `positions` is how many positions the model has embeddings for.
pub(crate) fn begin<P: KvPages>(
    batch: &mut [SequenceStep<'_, KvCache<P>>],
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
fn reserve<P: KvPages>(batch: &mut [SequenceStep<'_, KvCache<P>>]) -> Result<(), OutOfCacheMemory> {
    let Some((step, others)) = batch.split_first_mut() else { return Ok(()) };
    let pages = step.cache.pages().len();
    let certain = step.certain();
    step.cache.reserve(certain, step.tree.len() - certain)?;
    reserve(others).inspect_err(|_| step.cache.keep_pages(pages))
}

/// Makes the accepted path of each sequence part of its context.
pub(crate) fn commit<P: KvPages>(batch: &mut [Accepted<'_, KvCache<P>>]) {
    for Accepted { cache, path } in batch {
        cache.commit(path);
    }
}
