//! The text that a request comes with, indexed.

use std::sync::Arc;

use crate::history::{Log, LogWriter, context_of, question};
use crate::{Spellings, TokenId};

/// The references and the prompt of a request, indexed for drafting.
///
/// Indexing is what the beginning of a request takes time for. It needs no namespace, so it can be done on another thread,
/// and once for several requests that begin alike: a clone copies the index, which is many times faster than making it.
pub struct RequestText {
    pub(crate) log: Log,
    pub(crate) writer: LogWriter,
    /// The end of the prompt, as far as it can match.
    pub(crate) context: Vec<TokenId>,
    /// Where the prompt begins, behind the references.
    pub(crate) prompt_start: u32,
    /// The token that stands for the prompt.
    pub(crate) question: TokenId,
    pub(crate) spellings: Option<Arc<Spellings>>,
}

impl RequestText {
    /// Indexes `references`, texts that the output may repeat (documents, a predicted output), and `prompt`.
    pub fn new(prompt: &[TokenId], references: &[&[TokenId]]) -> Self {
        let (log, mut writer, mut prompt_start) = (Log::default(), LogWriter::default(), 0);
        for text in references.iter().copied().chain([prompt]) {
            writer.begin_text(&log);
            prompt_start = log.len();
            writer.extend(&log, text);
        }
        let context = context_of(prompt).to_vec();
        Self { log, writer, context, prompt_start, question: question(prompt), spellings: None }
    }

    /// Lets the request draft what follows a word of its text that is spelled otherwise, if the `spellings` are known.
    #[must_use]
    pub fn with_spellings(self, spellings: Option<&Arc<Spellings>>) -> Self {
        Self { spellings: spellings.map(Arc::clone), ..self }
    }

    /// Allocated bytes.
    pub fn bytes(&self) -> usize {
        self.log.bytes()
    }
}

impl Clone for RequestText {
    fn clone(&self) -> Self {
        let (log, writer) = self.writer.copy(&self.log);
        Self { log, writer, context: self.context.clone(), spellings: self.spellings.clone(), ..*self }
    }
}
