//! A request: its own text, what it drafts out of that and of what is shared, and what it learns.

use std::sync::Arc;

use crate::departure::Departure;
use crate::draft_origin::DraftOrigin;
use crate::draft_params::{DraftParams, DraftShape, DraftSource};
use crate::growth::Growth;
use crate::history::{Log, LogWriter, Occurrence};
use crate::node_evidence::Progress;
use crate::reliability::Reliability;
use crate::request_text::RequestText;
use crate::runners_up::{RANKS, RunnersUp};
use crate::shared::Shared;
use crate::trust::Trust;
use crate::{DraftTree, Spellings, TokenId};

/// Contexts whose runners-up a request keeps: about what an answer of two thousand tokens has.
const PLACES: usize = 1 << 12;

/// How a request and its namespace use each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// It drafts from what is shared, and its output is shared when it is finished.
    #[default]
    ReadWrite,
    /// It drafts from what is shared; nothing of it is ever seen by another.
    Read,
    /// It drafts from its own text alone, and nothing of it is ever seen by another.
    Off,
}

/// One request: its own text, which no other sees.
pub struct Request {
    text: Log,
    text_writer: LogWriter,
    /// The end of its text, as far as it can match.
    context: Vec<TokenId>,
    /// The token that stands for its prompt.
    question: TokenId,
    /// Where its prompt begins, behind its references, and its output.
    prompt_start: u32,
    output_start: u32,
    runners_up: RunnersUp,
    trust: Trust,
    /// The namespace's trust as it was when the request began.
    origin: Arc<Trust>,
    sharing: Sharing,
    departure: Option<Departure>,
    spellings: Option<Arc<Spellings>>,
    growth: Growth,
    /// The draft in the parallel shape, and the nodes of the grown one that it repeats; else empty.
    parallel: (DraftTree, Vec<u32>),
    reliability: Reliability,
}

impl Request {
    /// A request of this trust, with the text that it comes with.
    pub(crate) fn new(trust: Arc<Trust>, text: RequestText, sharing: Sharing) -> Self {
        let RequestText { log, writer, context, prompt_start, question, spellings } = text;
        Self {
            output_start: log.len(),
            text: log,
            text_writer: writer,
            context,
            question,
            prompt_start,
            runners_up: RunnersUp::new(PLACES),
            trust: Trust::clone(&trust),
            origin: trust,
            sharing,
            departure: None,
            spellings,
            growth: Growth::default(),
            parallel: Default::default(),
            reliability: Reliability::default(),
        }
    }

    /// Drafts what may follow its text, out of that and of what is shared.
    pub(crate) fn draft(
        &mut self,
        shared: &Shared,
        shared_runners_up: &RunnersUp,
        params: &DraftParams,
    ) -> &DraftTree {
        let source = match self.sharing {
            Sharing::Off => DraftSource::Prompt,
            Sharing::Read | Sharing::ReadWrite => params.source,
        };
        let Self { text, runners_up, trust, growth, context, .. } = self;
        let logs = shared.logs(text);
        let histories = shared.histories(&logs);
        let runners_up = [&*runners_up, shared_runners_up];
        let progress = Progress {
            question: self.question,
            output_len: text.len() - self.output_start,
            departure: self.departure,
            spellings: self.spellings.as_deref(),
        };
        let knowledge = shared.knowledge(&histories, source, runners_up, progress);
        growth.grow(knowledge, trust, context, *params);
        self.parallel.1.clear();
        if params.shape == DraftShape::Parallel {
            self.parallel = self.growth.tree().side_by_side(params.nodes);
            return &self.parallel.0;
        }
        self.growth.tree()
    }

    /// Appends the tokens that the model produced, and learns from how the last draft fared.
    pub(crate) fn accept(&mut self, tokens: &[TokenId]) {
        let Self { trust, growth, reliability, departure, .. } = self;
        growth.learn(trust, departure, tokens, |probability, is_accepted| {
            reliability.add(probability, is_accepted);
        });
        growth.forget();
        self.text_writer.extend(&self.text, tokens);
        self.context.extend_from_slice(tokens);
        let surplus = self.context.len().saturating_sub(Occurrence::LONGEST as usize);
        self.context.drain(..surplus);
    }

    /// Whether the model produced a token.
    pub(crate) fn has_output(&self) -> bool {
        self.text.len() > self.output_start
    }

    /// The token that stands for its prompt, then the tokens that the model produced.
    pub(crate) fn answer(&self) -> Vec<TokenId> {
        std::iter::once(self.question).chain(self.text.tokens(self.output_start..u32::MAX)).collect()
    }

    /// Whether what it produced joins its namespace.
    pub(crate) fn shares_output(&self) -> bool {
        self.sharing == Sharing::ReadWrite
    }

    /// What the model held likeliest behind its tokens.
    pub(crate) fn runners_up(&self) -> &RunnersUp {
        &self.runners_up
    }

    /// `trust` with what it has learned since it began.
    pub(crate) fn teach(&self, trust: &Trust) -> Trust {
        let mut trust = Trust::clone(trust);
        trust.join(&self.trust, &self.origin);
        trust
    }

    /// Learns what the model held likeliest behind a context, of which the last two tokens count.
    pub fn observe(&mut self, context: &[TokenId], likeliest: [TokenId; RANKS]) {
        self.runners_up.put(context, likeliest);
    }

    /// What a node of the last draft was taken from.
    ///
    /// # Panics
    /// If the draft has no such node besides its root.
    pub fn origin(&self, node: usize) -> DraftOrigin {
        assert!(node > 0, "the root is no draft");
        let node = self.parallel.1.get(node).map_or(node, |&repeated| repeated as usize);
        self.growth.origin(node, self.prompt_start)
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
