//! The text of an answer, from its tokens.

use std::mem;

use lookahead_model::TokenId;
use lookahead_model::tokenizer::{DecodeOptions, TokenStream, Tokenizer};

use crate::stop_strings::{StopCheck, StopStrings};

/// The text of an answer as its tokens come: whole characters, no end token, no stop string and nothing behind it.
#[derive(Clone, Debug)]
pub struct AnswerText {
    stream: TokenStream,
    stop: StopStrings,
    stopped: bool,
}

impl AnswerText {
    /// The text of an answer that ends where the first of `stop` occurs.
    pub fn new(tokenizer: &Tokenizer, stop: impl IntoIterator<Item = String>) -> Self {
        let stream = tokenizer.stream(DecodeOptions { show_special: false, continuation: true });
        Self { stream, stop: StopStrings::new(stop), stopped: false }
    }

    /// Takes the next token. The text is often empty, as no part of a character or of a stop string is shown. Once
    /// a stop string is complete, nothing more comes.
    pub fn push(&mut self, token: TokenId) -> StopCheck {
        if self.stopped {
            return StopCheck { text: String::new(), stopped: true };
        }
        let check = self.stop.push(self.stream.push(token));
        self.stopped = check.stopped;
        check
    }

    /// The stop string that has ended the answer, if one has.
    pub fn stop_string(&self) -> Option<&str> {
        self.stop.found()
    }

    /// The text still held back, once no more tokens will come. An answer that ends inside a character ends before it.
    pub fn finish(&mut self) -> String {
        if mem::replace(&mut self.stopped, true) { String::new() } else { self.stop.finish() }
    }
}

#[cfg(test)]
mod tests {
    use lookahead_model::gguf::{GgufFile, Strings, Writer};

    use super::*;

    /// Byte-level tokens: a, b, a space, the two bytes of é, and an end.
    fn tokenizer() -> Tokenizer {
        let mut writer = Writer::new("tiny.gguf");
        writer
            .metadata("tokenizer.ggml.model", "gpt2")
            .metadata("tokenizer.ggml.pre", "gpt-2")
            .metadata(
                "tokenizer.ggml.tokens",
                ["a", "b", "Ġ", "Ã", "©", "<|im_end|>"].into_iter().collect::<Strings>(),
            )
            .metadata("tokenizer.ggml.merges", Strings::default())
            .metadata("tokenizer.ggml.eos_token_id", 5u32);
        Tokenizer::from_gguf(&GgufFile::from_bytes("tiny.gguf", writer.to_bytes()).unwrap()).unwrap()
    }

    /// What each token shows, what the end shows, and whether the answer was stopped.
    fn answer(stop: &str, tokens: &[TokenId]) -> (Vec<String>, String, bool) {
        let mut answer = AnswerText::new(&tokenizer(), [stop.to_owned()]);
        let checks: Vec<StopCheck> = tokens.iter().map(|&token| answer.push(token)).collect();
        let stopped = checks.last().is_some_and(|check| check.stopped);
        let rest = answer.finish();
        assert_eq!(answer.finish(), "", "there is only one end");
        (checks.into_iter().map(|check| check.text).collect(), rest, stopped)
    }

    #[test]
    fn characters_come_whole_and_the_end_token_gives_no_text() {
        for (stop, tokens, shown, rest, stopped) in [
            ("", &[2, 0, 3, 4, 5][..], &[" ", "a", "", "é", ""][..], "", false),
            ("", &[0, 3], &["a", ""], "", false),
            ("ab", &[1, 0, 0, 5], &["b", "", "a", ""], "a", false),
            ("aé", &[1, 0, 3, 4, 1], &["b", "", "", "", ""], "", true),
            ("aé", &[1, 0, 3], &["b", "", ""], "a", false),
        ] {
            let shown = shown.iter().map(ToString::to_string).collect();
            assert_eq!(answer(stop, tokens), (shown, rest.to_owned(), stopped), "{stop:?} in {tokens:?}");
        }
    }
}
