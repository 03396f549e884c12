//! The names of a model's control tokens in text.

use crate::TokenId;
use crate::tokenizer::Tokenizer;

/// The names of all control tokens.
#[derive(Debug)]
pub(super) struct ControlNames {
    names: Vec<String>,
    /// Whether a name begins with a byte: most of a text is passed over by it.
    begins_with: [bool; 256],
}

impl ControlNames {
    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let names: Vec<String> = (0..tokenizer.vocabulary_size() as TokenId)
            .filter(|&id| tokenizer.is_control(id))
            .filter_map(|id| str::from_utf8(tokenizer.token_bytes(id)).ok())
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        let mut begins_with = [false; 256];
        for name in &names {
            begins_with[name.as_bytes()[0] as usize] = true;
        }
        Self { names, begins_with }
    }

    /// Whether a name occurs in `text`.
    pub(super) fn occur_in(&self, text: &str) -> bool {
        text.char_indices().any(|(at, _)| self.begin(&text[at..]))
    }

    /// `text` with `mark` behind the first character of every occurrence of a name, overlapping ones included.
    pub(super) fn mark(&self, text: &str, mark: char) -> String {
        let mut marked = String::with_capacity(text.len());
        for (at, character) in text.char_indices() {
            marked.push(character);
            if self.begin(&text[at..]) {
                marked.push(mark);
            }
        }
        marked
    }

    /// Whether `rest`, which is not empty, begins with a name.
    fn begin(&self, rest: &str) -> bool {
        self.begins_with[rest.as_bytes()[0] as usize] && self.names.iter().any(|name| rest.starts_with(name))
    }
}
