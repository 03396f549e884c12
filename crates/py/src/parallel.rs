//! Work on the requests of a batch, on several threads where it is enough for them.

use std::thread;

/// A thread for each so many requests: to start one takes as long as a few drafts.
const REQUESTS_PER_THREAD: usize = 32;

/// Threads, at most: a host has more to do than to draft.
const MAX_THREADS: usize = 8;

/// What `act` makes of each item, in their order.
pub(crate) fn in_parallel<T: Send, R: Send>(mut items: Vec<T>, act: impl Fn(T) -> R + Sync) -> Vec<R> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = (items.len() / REQUESTS_PER_THREAD).clamp(1, processors.min(MAX_THREADS));
    let size = items.len().div_ceil(threads);
    let act = &act;
    thread::scope(|scope| {
        let mut others = Vec::new();
        while items.len() > size {
            let chunk = items.split_off(items.len() - size);
            others.push(scope.spawn(move || chunk.into_iter().map(act).collect::<Vec<R>>()));
        }
        let mut results: Vec<R> = items.into_iter().map(act).collect();
        for other in others.into_iter().rev() {
            match other.join() {
                Ok(more) => results.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}
