//! KV caches of sequences that have ended, for those that begin alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use lookahead_model::{Cache, TokenId};

/// Entries that are kept at most: finding the best one looks at all of them.
const MAX_ENTRIES: usize = 256;

/// Caches by the tokens that they hold. Of the tenant that keeps the most tokens, those that nobody asked for the longest go
/// first.
#[derive(Debug)]
pub(super) struct PrefixCache<C> {
    /// By last use, the latest last.
    entries: Vec<Entry<C>>,
}

#[derive(Debug)]
struct Entry<C> {
    tenant: Arc<str>,
    scope: String,
    tokens: Vec<TokenId>,
    cache: C,
}

impl<C> Default for PrefixCache<C> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<C: Cache> PrefixCache<C> {
    /// Keeps a cache that holds `tokens`. Only requests of the same `scope` will find it: how quickly an answer comes tells
    /// what others have asked.
    pub(super) fn insert(&mut self, tenant: Arc<str>, scope: String, tokens: Vec<TokenId>, cache: C) {
        // What the new entry can be forked behind as well is of no use any more.
        self.entries.retain(|entry| {
            let len = entry.tokens.len();
            let is_in_new = entry.scope == scope && tokens.starts_with(&entry.tokens);
            !is_in_new || cache.forkable(len) < entry.cache.forkable(len)
        });
        if self.entries.len() >= MAX_ENTRIES {
            self.evict();
        }
        self.entries.push(Entry { tenant, scope, tokens, cache });
    }

    /// The cache that can be forked behind the most of the beginning of `prompt`, and behind how many tokens of it. That is
    /// its latest use.
    pub(super) fn longest(&mut self, scope: &str, prompt: &[TokenId]) -> Option<(&C, usize)> {
        let of_scope = self.entries.iter().enumerate().filter(|(_, entry)| entry.scope == scope);
        let forkable = |entry: &Entry<C>| entry.cache.forkable(common_prefix(&entry.tokens, prompt));
        let (len, index) = of_scope.map(|(index, entry)| (forkable(entry), index)).max()?;
        if len == 0 {
            return None;
        }
        let entry = self.entries.remove(index);
        self.entries.push(entry);
        self.entries.last().map(|entry| (&entry.cache, len))
    }

    /// How many tokens of the beginning of `prompt` a cache holds, at most. That is no use of it.
    pub(super) fn longest_len(&self, scope: &str, prompt: &[TokenId]) -> usize {
        let of_scope = self.entries.iter().filter(|entry| entry.scope == scope);
        of_scope.map(|entry| entry.cache.forkable(common_prefix(&entry.tokens, prompt))).max().unwrap_or(0)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Forgets the entry whose last use was the longest ago, of the tenant that keeps the most; whether there was one.
    pub(super) fn evict(&mut self) -> bool {
        let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in &self.entries {
            *kept.entry(&entry.tenant).or_default() += entry.tokens.len();
        }
        let Some((tenant, _)) = kept.into_iter().max_by_key(|&(_, tokens)| tokens) else { return false };
        let oldest = self.entries.iter().position(|entry| *entry.tenant == *tenant);
        oldest.map(|index| self.entries.remove(index)).is_some()
    }
}

/// How many tokens `a` and `b` begin with in common.
pub(super) fn common_prefix(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use lookahead_model::OutOfCacheMemory;

    use super::*;

    /// A cache by name that can be forked behind multiples of `step` tokens only, as if it had snapshots there.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Named {
        name: u32,
        step: usize,
    }

    impl Cache for Named {
        fn len(&self) -> usize {
            usize::MAX
        }

        fn capacity(&self) -> usize {
            usize::MAX
        }

        fn reserve(&mut self, _: usize, _: usize) -> Result<(), OutOfCacheMemory> {
            Ok(())
        }

        fn forkable(&self, len: usize) -> usize {
            len / self.step * self.step
        }

        fn fork(&self, _: usize, _: usize) -> Self {
            *self
        }
    }

    fn insert(prefixes: &mut PrefixCache<Named>, scope: &str, tokens: &[TokenId], name: u32) {
        prefixes.insert("tenant".into(), scope.to_owned(), tokens.to_vec(), Named { name, step: 1 });
    }

    fn longest(prefixes: &mut PrefixCache<Named>, scope: &str, prompt: &[TokenId]) -> Option<(u32, usize)> {
        prefixes.longest(scope, prompt).map(|(cache, len)| (cache.name, len))
    }

    fn names(prefixes: &PrefixCache<Named>) -> Vec<u32> {
        prefixes.entries.iter().map(|entry| entry.cache.name).collect()
    }

    #[test]
    fn the_longest_common_beginning_in_the_scope_is_found() {
        let mut prefixes = PrefixCache::default();
        insert(&mut prefixes, "a", &[1, 2, 3], 1);
        insert(&mut prefixes, "a", &[1, 2, 4, 5], 2);
        insert(&mut prefixes, "b", &[1, 2, 4, 6, 7], 3);
        assert_eq!(longest(&mut prefixes, "a", &[1, 2, 4, 6, 7]), Some((2, 3)));
        assert_eq!(longest(&mut prefixes, "a", &[1, 2, 3, 9]), Some((1, 3)));
        assert_eq!(longest(&mut prefixes, "b", &[1, 2, 4, 6, 7]), Some((3, 5)));
        assert_eq!(longest(&mut prefixes, "a", &[2]), None);
        assert_eq!(longest(&mut prefixes, "c", &[1, 2]), None);
    }

    #[test]
    fn what_can_be_forked_counts_and_not_what_is_held() {
        let mut prefixes = PrefixCache::default();
        insert(&mut prefixes, "a", &[1, 2, 3], 1);
        let sparse = Named { name: 2, step: 4 };
        prefixes.insert("tenant".into(), "a".to_owned(), vec![1, 2, 3, 4, 5, 6], sparse);
        assert_eq!(names(&prefixes), [1, 2], "the first can be forked where the second cannot");
        assert_eq!(longest(&mut prefixes, "a", &[1, 2, 3, 9]), Some((1, 3)));
        assert_eq!(longest(&mut prefixes, "a", &[1, 2, 3, 4, 5, 6, 7]), Some((2, 4)));
        insert(&mut prefixes, "a", &[1, 2, 3, 4, 5, 6, 7], 3);
        assert_eq!(names(&prefixes), [3]);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_what_is_held_twice_at_once() {
        let mut prefixes = PrefixCache::default();
        insert(&mut prefixes, "a", &[1, 2], 1);
        insert(&mut prefixes, "b", &[1, 2], 2);
        insert(&mut prefixes, "a", &[7], 3);
        insert(&mut prefixes, "a", &[1, 2, 3], 4);
        assert_eq!(names(&prefixes), [2, 3, 4]);
        longest(&mut prefixes, "b", &[1]);
        assert!(prefixes.evict());
        assert_eq!(longest(&mut prefixes, "a", &[7]), None);
        assert!(prefixes.evict() && prefixes.evict() && !prefixes.evict());
        for token in 0..2 * MAX_ENTRIES as u32 {
            insert(&mut prefixes, "a", &[token], token);
        }
        assert_eq!(prefixes.entries.len(), MAX_ENTRIES);
    }
    #[test]
    fn a_tenant_that_keeps_much_takes_nothing_away_from_one_that_keeps_little() {
        let mut prefixes = PrefixCache::default();
        prefixes.insert("modest".into(), "m".to_owned(), vec![1, 2], Named { name: 0, step: 1 });
        for token in 0..2 * MAX_ENTRIES as u32 {
            prefixes.insert(
                "greedy".into(),
                format!("g{token}"),
                vec![token; 3],
                Named { name: token, step: 1 },
            );
        }
        assert_eq!(longest(&mut prefixes, "m", &[1, 2, 3]), Some((0, 2)));
        assert_eq!(longest(&mut prefixes, "g0", &[0]), None);
    }
}
