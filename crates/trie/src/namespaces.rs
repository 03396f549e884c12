//! Namespaces by name: what one of them learns is never seen in another.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::{MIN_BYTES, Namespace, TrieError};

/// Namespaces that are made when they are first named.
///
/// Each has a bound of its own, so that none makes another forget: what a namespace drafts does not depend on what others
/// hold, not even on how much.
pub struct Namespaces {
    max_bytes: usize,
    by_name: RwLock<BTreeMap<String, Arc<Namespace>>>,
}

impl Namespaces {
    /// No namespaces yet; each will take at most `max_bytes`.
    ///
    /// # Errors
    /// If `max_bytes` is below [`MIN_BYTES`].
    pub fn new(max_bytes: usize) -> Result<Self, TrieError> {
        if max_bytes < MIN_BYTES {
            return Err(TrieError::MaxBytes(max_bytes));
        }
        Ok(Self { max_bytes, by_name: RwLock::default() })
    }

    /// The namespace of this name, a new one if there is none.
    ///
    /// # Errors
    /// None that a bound which [`new`](Self::new) took can cause.
    pub fn get(&self, name: &str) -> Result<Arc<Namespace>, TrieError> {
        if let Some(namespace) = self.find(name) {
            return Ok(namespace);
        }
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(namespace) = by_name.get(name) {
            return Ok(Arc::clone(namespace));
        }
        let namespace = Arc::new(Namespace::new(self.max_bytes)?);
        by_name.insert(name.to_owned(), Arc::clone(&namespace));
        Ok(namespace)
    }

    /// The namespace of this name, if there is one.
    pub fn find(&self, name: &str) -> Option<Arc<Namespace>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Puts a namespace, opened from a file for example, under a name; returns the one that was there.
    pub fn insert(&self, name: &str, namespace: Arc<Namespace>) -> Option<Arc<Namespace>> {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), namespace)
    }

    /// Forgets the namespace of this name and returns it. Requests that began in it go on with what they have; a namespace of
    /// this name starts empty.
    pub fn remove(&self, name: &str) -> Option<Arc<Namespace>> {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// The names, ascending.
    pub fn names(&self) -> Vec<String> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}
