//! A namespace: what its requests share, and the requests themselves.
//!
//! A request drafts from its own text and from the texts of its namespace, and learns as its tokens come. It changes nothing
//! that others see until it is finished: then its output, its runners-up and what it learned join the namespace.

use crate::growth::{DraftBounds, Growth, Knowledge};
use crate::history::{History, Occurrence};
use crate::runners_up::{RANKS, RunnersUp};
use crate::trust::Trust;
use crate::{DraftTree, MIN_BYTES, OutputSharing, TokenId, TrieError};

/// Contexts whose runners-up a request keeps: about what an answer of two thousand tokens has.
const REQUEST_PLACES: usize = 1 << 12;

/// Contexts whose runners-up a namespace keeps.
const SHARED_PLACES: usize = 1 << 16;

/// Tokens of the context that can match.
const CONTEXT: usize = Occurrence::LONGEST as usize;

/// Probabilities told apart by [`Reliability`].
const BINS: usize = 10;

/// What requests share. Nothing of it is seen in another namespace.
///
/// Drafts are a deterministic function of what was finished and accepted, in order.
///
/// ```
/// use lookahead_trie::{DraftBounds, Namespace, OutputSharing};
///
/// let mut namespace = Namespace::new(64 << 20)?;
/// namespace.warm_up(&[7, 8, 9, 10, 11]);
/// let mut request = namespace.begin(&[1, 2, 3, 7, 8], OutputSharing::Shared);
/// let bounds = DraftBounds { nodes: 3, depth: 16, min_probability: 0.0 };
/// assert_eq!(namespace.draft(&mut request, bounds).tokens(), [8, 9, 10, 11]);
/// namespace.accept(&mut request, &[9, 10, 5]);
/// namespace.finish(request);
/// # Ok::<(), lookahead_trie::TrieError>(())
/// ```
pub struct Namespace {
    max_bytes: usize,
    /// Texts by age: the newer half takes all that comes; when it has grown to half of the bound, it becomes the older one,
    /// which goes. Text that is still of use comes again, as the output of those who used it.
    newer: History,
    older: History,
    /// How often the halves changed places.
    turns: u64,
    trust: Trust,
    runners_up: RunnersUp,
}

/// One request: its own text, which no other sees.
pub struct Request {
    text: History,
    prompt_len: usize,
    runners_up: RunnersUp,
    trust: Trust,
    /// The namespace's trust as it was when the request began.
    origin: Trust,
    sharing: OutputSharing,
    growth: Growth,
    /// The namespace's turns at the last draft.
    turns: u64,
    reliability: Reliability,
}

/// How true estimated probabilities were: drafted tokens whose parents were accepted, by the probability that they were
/// given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reliability {
    bins: [ReliabilityBin; BINS],
}

/// Drafted tokens of like probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReliabilityBin {
    /// How many there were.
    pub drafted: u64,
    /// The sum of their probabilities.
    pub expected: f64,
    /// How many were accepted.
    pub accepted: u64,
}

impl Namespace {
    /// An empty namespace whose texts and their index take at most `max_bytes`, about 45 bytes a token of real text.
    ///
    /// # Errors
    /// If `max_bytes` is below [`MIN_BYTES`].
    pub fn new(max_bytes: usize) -> Result<Self, TrieError> {
        if max_bytes < MIN_BYTES {
            return Err(TrieError::MaxBytes(max_bytes));
        }
        Ok(Self {
            max_bytes,
            newer: History::default(),
            older: History::default(),
            turns: 0,
            trust: Trust::default(),
            runners_up: RunnersUp::new(SHARED_PLACES),
        })
    }

    /// Adds one text of a corpus, or an earlier answer.
    pub fn warm_up(&mut self, tokens: &[TokenId]) {
        self.newer.begin_text();
        for piece in tokens.chunks(1 << 10) {
            // What one piece can add at most: a table that doubles while the old one is still there.
            if self.newer.bytes() >= self.max_bytes / 4 {
                self.older = std::mem::take(&mut self.newer);
                self.turns += 1;
            }
            self.newer.extend(piece);
        }
    }

    /// Adds what the model held likeliest behind `context`, of which the last two tokens count.
    pub fn warm_up_runners_up(&mut self, context: &[TokenId], likeliest: [TokenId; RANKS]) {
        self.runners_up.put(context, likeliest);
    }

    /// Starts a request.
    pub fn begin(&self, prompt: &[TokenId], sharing: OutputSharing) -> Request {
        let mut text = History::default();
        text.extend(prompt);
        Request {
            text,
            prompt_len: prompt.len(),
            runners_up: RunnersUp::new(REQUEST_PLACES),
            trust: self.trust.clone(),
            origin: self.trust.clone(),
            sharing,
            growth: Growth::default(),
            turns: self.turns,
            reliability: Reliability::default(),
        }
    }

    /// Drafts what may follow the request's text. The root is its last token; where nothing is known or likely enough, it
    /// stays alone. The tree of a request without any text is empty.
    pub fn draft<'a>(&self, request: &'a mut Request, bounds: DraftBounds) -> &'a DraftTree {
        let Request { text, runners_up, trust, growth, .. } = request;
        let context = &text.tokens()[text.tokens().len().saturating_sub(CONTEXT)..];
        growth.grow(self.knowledge(text, runners_up), trust, context, bounds);
        request.turns = self.turns;
        request.growth.tree()
    }

    /// Appends the tokens that the model produced to the request's text. It learns from how the last draft fared.
    pub fn accept(&self, request: &mut Request, tokens: &[TokenId]) {
        let Request { text, runners_up, trust, growth, reliability, .. } = request;
        if request.turns == self.turns {
            let knowledge = self.knowledge(text, runners_up);
            growth.learn(knowledge, trust, tokens, |probability, is_accepted| {
                reliability.add(probability, is_accepted);
            });
        }
        growth.forget();
        text.extend(tokens);
    }

    /// Ends a request. Unless it keeps them to itself, its output, its runners-up and what it learned join the namespace.
    /// Its prompt does not: nobody ever sees it.
    #[expect(clippy::needless_pass_by_value, reason = "a finished request is no more")]
    pub fn finish(&mut self, request: Request) {
        if request.sharing == OutputSharing::Shared {
            self.warm_up(&request.text.tokens()[request.prompt_len..]);
            self.runners_up.join(&request.runners_up);
            self.trust.join(&request.trust, &request.origin);
        }
    }

    /// Allocated bytes of texts, their index, and runners-up.
    pub fn bytes(&self) -> usize {
        self.newer.bytes() + self.older.bytes() + self.runners_up.bytes()
    }

    fn knowledge<'a>(&'a self, text: &'a History, runners_up: &'a RunnersUp) -> Knowledge<'a> {
        Knowledge {
            histories: [text, text, &self.newer, &self.older],
            runners_up: [runners_up, &self.runners_up],
        }
    }
}

impl Request {
    /// Keeps what the model held likeliest in the place of each of the last `likeliest.len()` tokens of the text.
    pub fn keep_runners_up(&mut self, likeliest: &[[TokenId; RANKS]]) {
        let text = self.text.tokens();
        let first = text.len().saturating_sub(likeliest.len());
        for (end, &likeliest) in (first..).zip(likeliest) {
            self.runners_up.put(&text[..end.min(text.len())], likeliest);
        }
    }

    /// How true its drafts' probabilities were.
    pub fn reliability(&self) -> &Reliability {
        &self.reliability
    }

    /// Allocated bytes of its text, index, and runners-up.
    pub fn bytes(&self) -> usize {
        self.text.bytes() + self.runners_up.bytes()
    }
}

impl Reliability {
    fn add(&mut self, probability: f32, is_accepted: bool) {
        let bin = &mut self.bins[((probability * BINS as f32) as usize).min(BINS - 1)];
        bin.drafted += 1;
        bin.expected += f64::from(probability);
        bin.accepted += u64::from(is_accepted);
    }

    /// Tokens of like probability, ascending; those of the n-th bin had n tenths or more.
    pub fn bins(&self) -> &[ReliabilityBin] {
        &self.bins
    }

    /// Adds what another request saw.
    pub fn join(&mut self, other: &Self) {
        for (bin, other) in self.bins.iter_mut().zip(&other.bins) {
            bin.drafted += other.drafted;
            bin.expected += other.expected;
            bin.accepted += other.accepted;
        }
    }

    /// The expected calibration error: how far the share of accepted tokens is from their mean probability, averaged over
    /// all drafted tokens. 0 if there are none.
    pub fn calibration_error(&self) -> f64 {
        let off = self.bins.iter().map(|bin| (bin.expected - bin.accepted as f64).abs()).sum::<f64>();
        off / self.bins.iter().map(|bin| bin.drafted).sum::<u64>().max(1) as f64
    }
}
