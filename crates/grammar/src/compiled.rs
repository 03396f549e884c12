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
    /// Of source and tables; 0 until it is compiled.
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
    pub(crate) fn get(&self, source: String, compile: impl FnOnce() -> Result<Compiled, String>) -> Outcome {
        let asked = self.kept().ask(&source);
        let outcome = asked.get_or_init(|| self.turns.take(compile).map(Arc::new)).clone();
        self.settle(&source, &asked, &outcome);
        outcome
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what was compiled, and makes room for it.
    fn settle(&self, source: &str, asked: &Arc<OnceLock<Outcome>>, outcome: &Outcome) {
        let mut kept = self.kept();
        let Some(entry) = kept.entries.get_mut(source).filter(|entry| Arc::ptr_eq(&entry.outcome, asked)) else {
            return; // another has settled it, and it went again
        };
        match outcome {
            Ok(compiled) if entry.bytes == 0 => {
                entry.bytes = source.len() + compiled.start.bytes();
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
