//! Requests that wait, in a queue for each tenant.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;

/// Queues by tenant. A tenant without requests has none.
#[derive(Debug)]
pub(super) struct TenantQueues<T> {
    /// Ordered by name, so that the order of tenants depends on nothing else.
    queues: BTreeMap<Arc<str>, VecDeque<T>>,
}

impl<T> Default for TenantQueues<T> {
    fn default() -> Self {
        Self { queues: BTreeMap::new() }
    }
}

impl<T> TenantQueues<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Requests of all tenants.
    pub(super) fn len(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    /// Tenants that have requests in here.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &Arc<str>> {
        self.queues.keys()
    }

    pub(super) fn has(&self, tenant: &str) -> bool {
        self.queues.contains_key(tenant)
    }

    /// The requests of `tenant`, the first first.
    pub(super) fn of(&self, tenant: &str) -> impl Iterator<Item = &T> {
        self.queues.get(tenant).into_iter().flatten()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.queues.values().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.queues.values_mut().flatten()
    }

    pub(super) fn push_back(&mut self, tenant: &Arc<str>, request: T) {
        self.queues.entry(Arc::clone(tenant)).or_default().push_back(request);
    }

    pub(super) fn push_front(&mut self, tenant: &Arc<str>, request: T) {
        self.queues.entry(Arc::clone(tenant)).or_default().push_front(request);
    }

    /// Takes the request at `index` of the queue of `tenant` out.
    pub(super) fn remove(&mut self, tenant: &str, index: usize) -> Option<T> {
        let queue = self.queues.get_mut(tenant)?;
        let request = queue.remove(index);
        if queue.is_empty() {
            self.queues.remove(tenant);
        }
        request
    }

    /// Takes all requests of which `goes` is true out; the others keep their order.
    pub(super) fn extract(&mut self, mut goes: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut gone = Vec::new();
        self.queues.retain(|_, queue| {
            if queue.iter().any(&mut goes) {
                for request in mem::take(queue) {
                    if goes(&request) { gone.push(request) } else { queue.push_back(request) }
                }
            }
            !queue.is_empty()
        });
        gone
    }
}
