//! The pre-tokenizers of `tokenizer.json`, with errors where the library has none.
//!
//! Their regular expressions may look ahead, so a backtracking engine runs them, which gives up on some texts: a run of a
//! million spaces is one. The library takes the rest of such a text for one word, which is another prompt than the user
//! wrote. Here it is an error.

use fancy_regex::Regex;
use serde::Deserialize;
use tokenizers::pattern::Invert;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{PreTokenizedString, PreTokenizer, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::pre_tokenizer::GPT2;

/// The steps of a pre-tokenizer, in order.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "PreTokenizerWrapper")]
pub(super) struct WordSplits(Vec<Step>);

#[derive(Clone, Debug)]
enum Step {
    /// Words and what lies between them.
    Split { regex: Regex, behavior: SplitDelimiterBehavior, invert: bool },
    /// A space before each piece that begins with none.
    PrefixSpace,
    /// A step of the library's that runs no regular expression.
    Plain(PreTokenizerWrapper),
}

impl TryFrom<PreTokenizerWrapper> for WordSplits {
    type Error = fancy_regex::Error;

    fn try_from(wrapper: PreTokenizerWrapper) -> Result<Self, Self::Error> {
        let mut steps = Vec::new();
        add(wrapper, &mut steps)?;
        Ok(Self(steps))
    }
}

fn add(wrapper: PreTokenizerWrapper, steps: &mut Vec<Step>) -> Result<(), fancy_regex::Error> {
    match wrapper {
        PreTokenizerWrapper::Sequence(sequence) => {
            for part in sequence {
                add(part, steps)?;
            }
        }
        PreTokenizerWrapper::Split(split) => {
            let regex = match &split.pattern {
                SplitPattern::String(text) => Regex::new(&fancy_regex::escape(text))?,
                SplitPattern::Regex(pattern) => Regex::new(pattern)?,
            };
            steps.push(Step::Split { regex, behavior: split.behavior, invert: split.invert });
        }
        PreTokenizerWrapper::ByteLevel(bytes) if bytes.use_regex => {
            if bytes.add_prefix_space {
                steps.push(Step::PrefixSpace);
            }
            let (regex, behavior) = (Regex::new(GPT2)?, SplitDelimiterBehavior::Isolated);
            steps.push(Step::Split { regex, behavior, invert: false });
            let bytes = ByteLevel::new(false, bytes.trim_offsets, false);
            steps.push(Step::Plain(PreTokenizerWrapper::ByteLevel(bytes)));
        }
        plain => steps.push(Step::Plain(plain)),
    }
    Ok(())
}

impl PreTokenizer for WordSplits {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        self.0.iter().try_for_each(|step| match step {
            Step::Split { regex, behavior, invert: false } => {
                text.split(|_, piece| piece.split(regex, *behavior))
            }
            Step::Split { regex, behavior, invert: true } => {
                text.split(|_, piece| piece.split(Invert(regex), *behavior))
            }
            Step::PrefixSpace => text.split(|_, mut piece| {
                if !piece.get().starts_with(' ') {
                    piece.prepend(" ");
                }
                Ok([piece])
            }),
            Step::Plain(plain) => plain.pre_tokenize(text),
        })
    }
}
