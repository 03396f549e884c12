//! One grammar for several answers that wait.

use std::sync::{Arc, Mutex, PoisonError};

use lookahead_engine::{Constraint, ConstraintError, Scout};
use lookahead_grammar::Follower;
use lookahead_model::TokenId;

/// A follower that the answers of a request share until each of them begins: the state of a grammar may be large, and many
/// answers may wait.
pub(super) struct SharedConstraint {
    shared: Option<Arc<Mutex<Follower>>>,
    own: Option<Follower>,
}

impl SharedConstraint {
    pub(super) fn new(shared: &Arc<Mutex<Follower>>) -> Self {
        Self { shared: Some(Arc::clone(shared)), own: None }
    }

    /// The answer's own follower: a copy, or for the last answer to begin the shared one itself.
    fn own(&mut self) -> &mut Follower {
        let shared = &mut self.shared;
        self.own.get_or_insert_with(|| {
            let shared = shared.take().expect("an answer takes its own follower once");
            match Arc::try_unwrap(shared) {
                Ok(last) => last.into_inner().unwrap_or_else(PoisonError::into_inner),
                Err(shared) => shared.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            }
        })
    }
}

impl Constraint for SharedConstraint {
    fn allowed(&mut self, completion: &[TokenId]) -> Result<&[u32], ConstraintError> {
        self.own().allowed(completion)
    }

    fn scout(&mut self) -> Box<dyn Scout> {
        self.own().scout()
    }
}
