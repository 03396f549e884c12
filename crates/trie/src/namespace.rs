//! A namespace: what its requests share, and how they draft from it.
//!
//! A request drafts from its own text and from the texts of its namespace, and learns as its tokens come. It changes nothing
//! that others see until it is finished: then its output, its runners-up and what it learned join the namespace.
//!
//! Any number of requests draft while others finish: what is shared is read without a lock (`Log`, [`RunnersUp`]), and
//! replaced as a whole where it is replaced ([`Shared`]). Only those who add to it wait for each other.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::corpus::{Corpus, CorpusBuilder};
use crate::draft_file::{DraftFile, Found};
use crate::draft_params::DraftParams;
use crate::error::FileProblem;
use crate::history::{LogWriter, is_question};
use crate::journal::Record;
use crate::request::{Request, Sharing};
use crate::request_text::RequestText;
use crate::runners_up::{RANKS, RunnersUp};
use crate::shared::Shared;
use crate::sync::{ArcSwap, AtomicU64, Ordering};
use crate::trust::Trust;
use crate::{DraftTree, MIN_BYTES, TokenId, TrieError};

/// Contexts whose runners-up a namespace keeps.
const PLACES: usize = 1 << 16;

/// Corpora of a namespace: as many as occurrences can tell apart, beside the other histories.
const MAX_CORPORA: usize = 250;

/// Tokens that are added at a time, between looks at how much memory they take.
const PIECE: usize = 1 << 10;

/// About what a token of real text takes, with its index.
const BYTES_PER_TOKEN: usize = 40;

/// What requests share. Nothing of it is seen in another namespace.
///
/// Drafts are a deterministic function of what was finished and accepted, in order.
///
/// ```
/// use lookahead_trie::{DraftParams, Namespace, Sharing};
///
/// let namespace = Namespace::new(64 << 20)?;
/// namespace.warm_up(&[7, 8, 9, 10, 11])?;
/// let mut request = namespace.begin(&[1, 2, 3, 7, 8], &[], Sharing::ReadWrite);
/// let params = DraftParams { nodes: 3, min_probability: 0.0, ..DraftParams::default() };
/// assert_eq!(namespace.draft(&mut request, &params).tokens(), [8, 9, 10, 11]);
/// namespace.accept(&mut request, &[9, 10, 5]);
/// namespace.finish(request)?;
/// # Ok::<(), lookahead_trie::TrieError>(())
/// ```
pub struct Namespace {
    max_bytes: usize,
    shared: ArcSwap<Shared>,
    trust: ArcSwap<Trust>,
    runners_up: RunnersUp,
    tokens_learned: AtomicU64,
    writer: Mutex<Writer>,
}

/// What only one at a time may do.
#[derive(Default)]
struct Writer {
    /// Of the newer half.
    log: LogWriter,
    file: Option<DraftFile>,
}

/// How full a namespace is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceStats {
    /// Tokens learned since it was made or opened.
    pub tokens_learned: u64,
    /// Tokens that can be drafted from, those of its file and of corpora included.
    pub tokens: u64,
    /// Allocated bytes, without copies of files.
    pub bytes: usize,
    /// Bytes of copies of files. Nearly all are mapped: the system takes their memory back when it needs the room.
    pub mapped_bytes: u64,
}

impl Namespace {
    /// An empty namespace, whose texts and their index take at most `max_bytes`, about 40 bytes a token of real text.
    ///
    /// # Errors
    /// If `max_bytes` is below [`MIN_BYTES`].
    pub fn new(max_bytes: usize) -> Result<Self, TrieError> {
        if max_bytes < MIN_BYTES {
            return Err(TrieError::MaxBytes(max_bytes));
        }
        Ok(Self {
            max_bytes,
            shared: ArcSwap::default(),
            trust: ArcSwap::default(),
            runners_up: RunnersUp::new(PLACES),
            tokens_learned: AtomicU64::new(0),
            writer: Mutex::default(),
        })
    }

    /// The namespace in the file at `path` and in its journal beside it (the same name with `.journal`); an empty one if there
    /// are none yet. Each finished request is written to the journal before [`finish`](Self::finish) returns, and survives the
    /// program from then on; the machine, from the next [`save`](Self::save) on.
    ///
    /// One process at a time writes: to another that has the file open meanwhile, what is there is all there will be, and what
    /// it learns is gone when it ends ([`is_saved`](Self::is_saved) is false).
    ///
    /// # Errors
    /// As [`new`](Self::new); if a file cannot be read or written, is something else, is damaged, or holds drafts of another
    /// tokenizer than that with this `fingerprint`.
    pub fn open(path: &Path, fingerprint: u64, max_bytes: usize) -> Result<Self, TrieError> {
        let namespace = Self::new(max_bytes)?;
        let Found { base, records, file } = DraftFile::open(path, fingerprint)?;
        if let Some(base) = &base {
            let [trust, runners_up] = base.extras()?;
            namespace.runners_up.join_bytes(runners_up);
            namespace.trust.store(Arc::new(Trust::from_bytes(trust).unwrap_or_default()));
        }
        namespace.shared.store(Arc::new(Shared { base, ..Shared::default() }));
        for record in records {
            namespace.recall(record);
        }
        namespace.tokens_learned.store(0, Ordering::Relaxed);
        namespace.writer().file = file;
        Ok(namespace)
    }

    /// Adds one text, or an earlier answer.
    ///
    /// # Errors
    /// If the namespace is kept in a file and its journal cannot be written. The text is known all the same.
    pub fn warm_up(&self, tokens: &[TokenId]) -> Result<(), TrieError> {
        let mut writer = self.writer();
        self.add(&mut writer, tokens);
        writer.record(|| Record::Answer(tokens.to_vec(), Vec::new()))
    }

    /// Adds what the model held likeliest behind `context`, of which the last two tokens count.
    pub fn warm_up_runners_up(&self, context: &[TokenId], likeliest: [TokenId; RANKS]) {
        let _one_writer = self.writer();
        self.runners_up.put(context, likeliest);
    }

    /// Lets requests draft from the texts of a corpus too, called `name`, in place of one that had this name.
    ///
    /// # Errors
    /// If its trust or runners-up are damaged, or there are 250 corpora already.
    pub fn add_corpus(&self, name: &str, corpus: Corpus) -> Result<(), TrieError> {
        let _one_writer = self.writer();
        let [_, runners_up] = corpus.extras()?;
        let mut shared = Shared::clone(&self.shared.load());
        shared.corpora.retain(|(other, _)| other != name);
        if shared.corpora.len() >= MAX_CORPORA {
            return Err(FileProblem::TooManyCorpora(MAX_CORPORA).of(corpus.path()));
        }
        self.runners_up.join_bytes(runners_up);
        shared.corpora.push((name.to_owned(), corpus));
        self.shared.store(Arc::new(shared));
        Ok(())
    }

    /// Takes a corpus away; whether there was one of this name. Drafts under way may still come from it.
    pub fn remove_corpus(&self, name: &str) -> bool {
        let _one_writer = self.writer();
        let mut shared = Shared::clone(&self.shared.load());
        let before = shared.corpora.len();
        shared.corpora.retain(|(other, _)| other != name);
        let is_removed = shared.corpora.len() < before;
        self.shared.store(Arc::new(shared));
        is_removed
    }

    /// Its corpora, by name.
    pub fn corpora(&self) -> Vec<(String, Corpus)> {
        self.shared.load().corpora.clone()
    }

    /// Starts a request. `references` are texts that its output may repeat (documents, a predicted output); like its prompt
    /// they serve it alone.
    pub fn begin(&self, prompt: &[TokenId], references: &[&[TokenId]], sharing: Sharing) -> Request {
        self.begin_with(RequestText::new(prompt, references), sharing)
    }

    /// As [`begin`](Self::begin), with a text that is indexed already: takes the same time however long that is.
    pub fn begin_with(&self, text: RequestText, sharing: Sharing) -> Request {
        Request::new(self.trust.load_full(), text, sharing)
    }

    /// Drafts what may follow the request's text. The root is its last token; where nothing is known or likely enough, it
    /// stays alone. The tree of a request without any text is empty.
    pub fn draft<'a>(&self, request: &'a mut Request, params: &DraftParams) -> &'a DraftTree {
        request.draft(&self.shared.load_full(), &self.runners_up, params)
    }

    /// Drafts for several requests at once, from the same state of what is shared. The trees come in their order.
    pub fn draft_all<'a>(
        &self,
        requests: impl IntoIterator<Item = &'a mut Request>,
        params: &DraftParams,
    ) -> Vec<&'a DraftTree> {
        let shared = self.shared.load_full();
        requests.into_iter().map(|request| request.draft(&shared, &self.runners_up, params)).collect()
    }

    /// Appends the tokens that the model produced to the request's text. It learns from how the last draft fared.
    pub fn accept(&self, request: &mut Request, tokens: &[TokenId]) {
        request.accept(tokens);
    }

    /// Ends a request. If it shares them, its output, its runners-up and what it learned join the namespace. Its prompt and
    /// its references do not: nobody ever sees them. Of the prompt, a hash of 31 bits stands before the output, by which the next
    /// request with the same prompt finds it.
    ///
    /// # Errors
    /// If the namespace is kept in a file and its journal cannot be written. The output is known all the same.
    #[expect(clippy::needless_pass_by_value, reason = "a finished request is no more")]
    pub fn finish(&self, request: Request) -> Result<(), TrieError> {
        if !request.shares_output() || !request.has_output() {
            return Ok(());
        }
        let answer = request.answer();
        let mut writer = self.writer();
        self.add(&mut writer, &answer);
        self.runners_up.join(request.runners_up());
        let trust = request.teach(&self.trust.load());
        self.trust.store(Arc::new(trust));
        writer.record(|| Record::Answer(answer, request.runners_up().to_bytes()))
    }

    /// Makes sure that all that was learned is on the disk, if the namespace is kept in a file: in the journal, or, where that
    /// has grown large or there is no file yet, in a file that takes the old one's place in one step. Requests draft
    /// meanwhile; those that finish wait.
    ///
    /// # Errors
    /// If a file cannot be written. What was there stays.
    pub fn save(&self) -> Result<(), TrieError> {
        let mut writer = self.writer();
        let Some(file) = writer.file.as_mut().filter(|file| !file.is_current()) else { return Ok(()) };
        let shared = self.shared.load_full();
        if !file.is_outgrown(shared.base.as_ref().map(Corpus::bytes)) {
            file.append(&Record::Trust(self.trust.load().to_bytes()))?;
            return file.sync();
        }
        // Not from memory, where a text may have made room for another, or is in two halves.
        let learned = file.answers()?;
        let (base, done) = file.replace(self.all(shared.base.as_ref(), &learned))?;
        writer.log = LogWriter::default();
        self.shared.store(Arc::new(Shared {
            base: Some(base),
            newer: Arc::default(),
            older: Arc::default(),
            corpora: shared.corpora.clone(),
        }));
        done
    }

    /// Whether what it learns is kept in a file.
    pub fn is_saved(&self) -> bool {
        self.writer().file.is_some()
    }

    /// How full it is. It waits for nobody: neither for who adds to it nor for a file that is written.
    pub fn stats(&self) -> NamespaceStats {
        let tokens_learned = self.tokens_learned.load(Ordering::Relaxed);
        let shared = self.shared.load();
        NamespaceStats {
            tokens_learned,
            tokens: u64::from(shared.newer.len())
                + u64::from(shared.older.len())
                + shared.files().map(Corpus::tokens).sum::<u64>(),
            bytes: shared.newer.bytes() + shared.older.bytes() + self.runners_up.bytes(),
            mapped_bytes: shared.files().map(Corpus::bytes).sum(),
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // Who panicked in the middle of adding has left a text that ends early.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a text to the newer half.
    fn add(&self, writer: &mut Writer, tokens: &[TokenId]) {
        let mut shared = self.shared.load_full();
        writer.log.begin_text(&shared.newer);
        for piece in tokens.chunks(PIECE) {
            if writer.log.bytes_after(piece.len()) > self.max_bytes / 2 {
                shared = Arc::new(Shared {
                    older: Arc::clone(&shared.newer),
                    newer: Arc::default(),
                    ..Shared::clone(&shared)
                });
                writer.log = LogWriter::default();
                self.shared.store(Arc::clone(&shared));
            }
            writer.log.extend(&shared.newer, piece);
        }
        let questions = tokens.iter().filter(|&&token| is_question(token)).count();
        self.tokens_learned.fetch_add((tokens.len() - questions) as u64, Ordering::Relaxed);
    }

    /// Learns what a journal holds.
    fn recall(&self, record: Record) {
        match record {
            Record::Answer(tokens, runners_up) => {
                let mut writer = self.writer();
                self.add(&mut writer, &tokens);
                self.runners_up.join_bytes(&runners_up);
            }
            Record::Trust(trust) => {
                if let Some(trust) = Trust::from_bytes(&trust) {
                    self.trust.store(Arc::new(trust));
                }
            }
        }
    }

    /// All of the file's texts and those learned since, without the oldest that are too many for the bound.
    fn all(&self, base: Option<&Corpus>, learned: &[Vec<TokenId>]) -> CorpusBuilder {
        let tokens = base.map_or(0, Corpus::tokens) as usize
            + learned.iter().map(|text| text.len() + 1).sum::<usize>();
        // They are written beside the texts, within the same bound.
        let trust = self.trust.load();
        let extras = trust.to_bytes().len() + self.runners_up.to_bytes().len();
        let max_bytes = self.max_bytes.saturating_sub(extras).max(self.max_bytes / 2);
        let mut most = tokens.min(max_bytes / BYTES_PER_TOKEN);
        let mut builder = loop {
            let mut builder = CorpusBuilder::default();
            let mut surplus = tokens - most;
            let mut add = |text: &[TokenId]| {
                builder.add(text.get(surplus..).unwrap_or_default());
                surplus = surplus.saturating_sub(text.len() + 1);
            };
            base.into_iter().flat_map(|base| base.shard().texts()).for_each(|text| add(&text));
            for text in learned {
                add(text);
            }
            let bytes = builder.log.bytes();
            if bytes <= max_bytes {
                break builder;
            }
            // Text that repeats itself less than real one takes more.
            most = (most as f64 * 0.9 * max_bytes as f64 / bytes as f64) as usize;
        };
        builder.runners_up.join(&self.runners_up);
        builder.trust = Some(Trust::clone(&trust));
        builder
    }
}

impl Writer {
    /// Writes a record to the journal, if there is one.
    fn record(&mut self, record: impl FnOnce() -> Record) -> Result<(), TrieError> {
        self.file.as_mut().map_or(Ok(()), |file| file.append(&record()))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn its_numbers_wait_for_nobody_who_writes() {
        let namespace = Arc::new(Namespace::new(MIN_BYTES).unwrap());
        let _writing = namespace.writer();
        let (tell, told) = channel();
        let other = Arc::clone(&namespace);
        thread::spawn(move || tell.send(other.stats()));
        assert!(told.recv_timeout(Duration::from_secs(20)).is_ok());
    }
}
