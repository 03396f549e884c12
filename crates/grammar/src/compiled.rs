//! Compiled grammars, kept for the next who asks for the same.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
};

use crate::walker::Walker;

/// A grammar at its beginning. It never moves: each answer walks with parsers of its own.
pub(crate) struct Compiled {
    start: Walker,
}

impl Compiled {
    pub(crate) fn new(start: Walker) -> Self {
        Self { start }
    }

    /// A parser for an answer.
    pub(crate) fn walker(&self) -> Walker {
        self.start.fork()
    }
}

/// What came of compiling a grammar.
pub(crate) type Outcome = Result<Arc<Compiled>, String>;

/// Bytes of a compiled grammar for each byte of its source, its lexer left aside. Measured with schemas of many properties.
const SOURCE_TIMES: usize = 32;

/// The compiled grammars that were asked for last, by their sources.
///
/// Those who ask for the same source at once wait for one compilation. Failures are kept for them alone.
pub(crate) struct Cache {
    kept: Mutex<Kept>,
    turns: Turns,
    most: usize,
    most_bytes: usize,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<String, Entry>,
    bytes: usize,
    /// Counts uses.
    clock: u64,
}

struct Entry {
    outcome: Arc<OnceLock<Outcome>>,
    /// Roughly what it takes; 0 until it is compiled.
    bytes: usize,
    used: u64,
}

impl Cache {
    /// A cache of up to `most` grammars of `most_bytes` in all, of which `at_once` are compiled at a time.
    pub(crate) fn new(most: usize, most_bytes: usize, at_once: usize) -> Self {
        let turns = Turns { free: Mutex::new(at_once), is_free: Condvar::new() };
        Self { kept: Mutex::default(), turns, most, most_bytes }
    }

    /// The grammar of `source`: kept, or compiled now.
    pub(crate) fn get(&self, source: &str, compile: impl FnOnce() -> Result<Compiled, String>) -> Outcome {
        let asked = self.kept().ask(source);
        let outcome = asked.get_or_init(|| self.turns.take(compile).map(Arc::new)).clone();
        self.settle(source, &asked, &outcome);
        outcome
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what was compiled, and makes room for it.
    fn settle(&self, source: &str, asked: &Arc<OnceLock<Outcome>>, outcome: &Outcome) {
        let mut kept = self.kept();
        let Some(entry) = kept.entries.get_mut(source).filter(|entry| Arc::ptr_eq(&entry.outcome, asked))
        else {
            return; // another has settled it, and it went again
        };
        match outcome {
            Ok(compiled) if entry.bytes == 0 => {
                entry.bytes = SOURCE_TIMES * source.len() + compiled.start.bytes();
                kept.bytes += kept.entries[source].bytes;
            }
            Ok(_) => {}
            Err(_) => drop(kept.entries.remove(source)),
        }
        while kept.entries.len() > self.most || kept.bytes > self.most_bytes {
            let compiled = kept.entries.iter().filter(|(_, entry)| entry.bytes > 0);
            let Some(oldest) = compiled.min_by_key(|(_, entry)| entry.used).map(|(source, _)| source.clone())
            else {
                return;
            };
            kept.bytes -= kept.entries.remove(&oldest).map_or(0, |entry| entry.bytes);
        }
    }
}

impl Kept {
    fn ask(&mut self, source: &str) -> Arc<OnceLock<Outcome>> {
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(source) {
            entry.used = self.clock;
            return Arc::clone(&entry.outcome);
        }
        let outcome = Arc::default();
        let entry = Entry { outcome: Arc::clone(&outcome), bytes: 0, used: self.clock };
        self.entries.insert(source.to_owned(), entry);
        outcome
    }
}

/// Lets so many work at once.
struct Turns {
    free: Mutex<usize>,
    is_free: Condvar,
}

impl Turns {
    fn take<T>(&self, work: impl FnOnce() -> T) -> T {
        let lock = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = lock();
        while *free == 0 {
            free = self.is_free.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        drop(free);
        let done = work();
        *lock() += 1;
        self.is_free.notify_one();
        done
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use llguidance::{ParserFactory, api::TopLevelGrammar};
    use lookahead_fixtures::{TinyModel, tiny_model};
    use lookahead_model::{gguf::GgufFile, tokenizer::Tokenizer};
    use toktrie::TokEnv;

    use super::*;
    use crate::vocabulary::Vocabulary;

    /// Compiles patterns, and counts how often.
    struct Patterns {
        factory: ParserFactory,
        compiled: AtomicUsize,
    }

    impl Patterns {
        fn new() -> Self {
            let file = GgufFile::from_bytes("tiny", tiny_model(&TinyModel::default())).unwrap();
            let tokenizer = Arc::new(Tokenizer::from_gguf(&file).unwrap());
            let ends = tokenizer.end_of_generation();
            let vocabulary: TokEnv = Arc::new(Vocabulary::new(&tokenizer, tokenizer.vocabulary_size(), ends));
            Self { factory: ParserFactory::new_simple(&vocabulary).unwrap(), compiled: AtomicUsize::new(0) }
        }

        fn get(&self, cache: &Cache, pattern: &str) -> Outcome {
            cache.get(pattern, || {
                self.compiled.fetch_add(1, Ordering::Relaxed);
                let parser = self.factory.create_parser(TopLevelGrammar::from_regex(pattern));
                parser.map(|parser| Compiled::new(Walker::new(parser))).map_err(|error| error.to_string())
            })
        }

        /// How many of `patterns` are compiled anew, in their order.
        fn compiled_of(&self, cache: &Cache, patterns: &[&str]) -> usize {
            let before = self.compiled.load(Ordering::Relaxed);
            for pattern in patterns {
                assert!(self.get(cache, pattern).is_ok(), "{pattern}");
            }
            self.compiled.load(Ordering::Relaxed) - before
        }
    }

    #[test]
    fn those_who_ask_for_the_same_at_once_wait_for_one_compilation() {
        let (patterns, cache, start) = (Patterns::new(), Cache::new(4, 1 << 20, 2), Barrier::new(8));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    assert!(patterns.get(&cache, "a[bc]*").is_ok());
                });
            }
        });
        assert_eq!(patterns.compiled.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_was_not_asked_for_longest_goes_first() {
        let (patterns, cache) = (Patterns::new(), Cache::new(2, 1 << 20, 1));
        assert_eq!(patterns.compiled_of(&cache, &["a", "b", "a", "c"]), 3);
        assert_eq!(patterns.compiled_of(&cache, &["a", "c"]), 0);
        assert_eq!(patterns.compiled_of(&cache, &["b"]), 1);
    }

    #[test]
    fn grammars_that_are_kept_have_a_bound_in_bytes() {
        let (patterns, wide) = (Patterns::new(), Cache::new(100, usize::MAX, 1));
        patterns.compiled_of(&wide, &["a", "b"]);
        let (two, narrow) = (wide.kept().bytes, |bytes| Cache::new(100, bytes, 1));
        assert_eq!(patterns.compiled_of(&narrow(two), &["a", "b", "a", "b"]), 2);
        assert_eq!(patterns.compiled_of(&narrow(two - 1), &["a", "b", "a", "b"]), 4);
        let none = narrow(1);
        patterns.compiled_of(&none, &["a"]);
        let kept = none.kept();
        assert_eq!((kept.bytes, kept.entries.len()), (0, 0));
    }

    #[test]
    fn failures_are_not_kept() {
        let (patterns, cache) = (Patterns::new(), Cache::new(4, 1 << 20, 1));
        for _ in 0..2 {
            assert!(patterns.get(&cache, "(").is_err());
        }
        assert_eq!(patterns.compiled.load(Ordering::Relaxed), 2);
        assert!(cache.kept().entries.is_empty());
    }

    #[test]
    fn only_so_many_compile_at_a_time() {
        let turns = Turns { free: Mutex::new(2), is_free: Condvar::new() };
        let (working, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    turns.take(|| {
                        most.fetch_max(working.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(5));
                        working.fetch_sub(1, Ordering::Relaxed);
                    });
                });
            }
        });
        assert_eq!(most.load(Ordering::Relaxed), 2);
    }
}
