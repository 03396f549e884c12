//! Where a request left a copy of its own text.
//!
//! A model that rewrites what it was given inserts, deletes or replaces some of it, and goes on with the rest. So what stands close
//! behind the place where a copy was left comes next far more often than other text that matches as little.

use crate::TokenId;
use crate::history::Occurrence;

/// A copy is a match of so many tokens.
const COPY: u8 = 8;

/// A place is forgotten after so many tokens of something else.
const MEMORY: u8 = 24;

/// A place in the request's own text where a copy was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    /// Index of the token that did not come.
    pub(crate) at: u32,
    /// Tokens that came since.
    age: u8,
}

impl Departure {
    /// The last departure when `token` has followed a context whose occurrences in the request's own text are `own`, the longest
    /// first, and `last` was the last departure before.
    pub(crate) fn after(last: Option<Self>, own: &[Occurrence], token: TokenId) -> Option<Self> {
        match own.first().filter(|longest| is_copy(longest)) {
            Some(copy) => (copy.token != token).then_some(Self { at: copy.next, age: 0 }),
            None => last.filter(|last| last.age < MEMORY).map(|Self { at, age }| Self { at, age: age + 1 }),
        }
    }
}

/// Whether a copy is under way.
pub(crate) fn is_copy(longest: &Occurrence) -> bool {
    longest.length >= COPY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_left_where_another_token_comes_and_forgotten_after_a_while() {
        let own = |length| [Occurrence { next: 7, token: 3, length, history: 0 }];
        let left = Departure::after(None, &own(COPY), 4);
        assert_eq!(left, Some(Departure { at: 7, age: 0 }));
        assert_eq!(Departure::after(left, &own(COPY), 3), None, "another copy goes on");
        assert_eq!(Departure::after(None, &own(COPY - 1), 4), None, "no copy was under way");
        let mut last = left;
        for age in 1..=MEMORY {
            last = Departure::after(last, &own(1), 3);
            assert_eq!(last, Some(Departure { at: 7, age }));
        }
        assert_eq!(Departure::after(last, &[], 3), None);
    }
}
