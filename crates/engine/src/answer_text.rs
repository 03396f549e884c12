//! The text of an answer, from its tokens.

use std::mem;

use lookahead_model::TokenId;
use lookahead_model::tokenizer::{DecodeOptions, EncodeOptions, TokenStream, Tokenizer};

use crate::stop_strings::{StopCheck, StopStrings};

/// The text of an answer as its tokens come: whole characters, no end token, no stop string and nothing behind it.
#[derive(Clone, Debug)]
pub struct AnswerText {
    stream: TokenStream,
    stop: StopStrings,
    /// Control tokens whose names are stop strings: they have no text in which one could be found.
    stop_controls: Vec<(TokenId, String)>,
    stopped: bool,
    /// The control token that has ended the answer.
    stop_control: Option<String>,
}

impl AnswerText {
    /// The text of an answer that ends where the first of `stop` occurs.
    pub fn new(tokenizer: &Tokenizer, stop: impl IntoIterator<Item = String>) -> Self {
        Self::showing(tokenizer, stop, &[])
    }

    /// As [`Self::new`], with the control tokens of these names in the text: what marks thinking and calls of tools. A
    /// stop string that is the whole name of a control token is found where that token comes. Else a stop string neither holds
    /// such a token nor goes across it.
    pub fn showing(tokenizer: &Tokenizer, stop: impl IntoIterator<Item = String>, markers: &[&str]) -> Self {
        let stream = tokenizer.stream(DecodeOptions { show_special: false, continuation: true });
        let stream = stream.showing(markers);
        let stop: Vec<String> = stop.into_iter().collect();
        let control = |name: &String| {
            let options = EncodeOptions { add_bos: false, parse_special: true };
            match *tokenizer.encode(name, options).ok()? {
                [id] if tokenizer.is_control(id) => Some((id, name.clone())),
                _ => None,
            }
        };
        let stop_controls = stop.iter().filter_map(control).collect();
        Self { stream, stop: StopStrings::new(stop), stop_controls, stopped: false, stop_control: None }
    }

    /// Takes the next token. The text is often empty, as no part of a character or of a stop string is shown. Once
    /// a stop string is complete, nothing more comes.
    pub fn push(&mut self, token: TokenId) -> StopCheck {
        if self.stopped {
            return StopCheck { text: String::new(), stopped: true };
        }
        if let Some((_, name)) = self.stop_controls.iter().find(|(id, _)| *id == token) {
            self.stop_control = Some(name.clone());
            let check = self.stop.push(self.stream.finish());
            self.stopped = true;
            let held = if check.stopped { String::new() } else { self.stop.finish() };
            return StopCheck { text: check.text + &held, stopped: true };
        }
        if self.stream.is_shown_control(token) {
            // A character that lacks its end is text before the marker.
            let check = self.stop.push(self.stream.finish());
            self.stopped = check.stopped;
            let text = if check.stopped {
                check.text
            } else {
                check.text + &self.stop.finish() + self.stream.push(token)
            };
            return StopCheck { text, stopped: check.stopped };
        }
        let check = self.stop.push(self.stream.push(token));
        self.stopped = check.stopped;
        check
    }

    /// The stop string that has ended the answer, if one has.
    pub fn stop_string(&self) -> Option<&str> {
        self.stop.found().or(self.stop_control.as_deref())
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
        answer_showing(&[], stop, tokens)
    }

    fn answer_showing(markers: &[&str], stop: &str, tokens: &[TokenId]) -> (Vec<String>, String, bool) {
        let mut answer = AnswerText::showing(&tokenizer(), [stop.to_owned()], markers);
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

    #[test]
    fn a_stop_string_that_is_the_name_of_a_control_token_is_found_where_the_token_comes() {
        for markers in [&[][..], &["<|im_end|>"]] {
            let mut answer =
                AnswerText::showing(&tokenizer(), ["ab", "<|im_end|>"].map(str::to_owned), markers);
            assert_eq!(answer.push(0), StopCheck { text: String::new(), stopped: false });
            assert_eq!(answer.push(5), StopCheck { text: "a".to_owned(), stopped: true });
            assert_eq!((answer.finish(), answer.stop_string()), (String::new(), Some("<|im_end|>")));
        }
    }

    #[test]
    fn markers_show_and_no_stop_string_goes_across_one() {
        const MARKERS: &[&str] = &["<|im_end|>", "<|no_such_token|>"];
        for (markers, stop, tokens, shown, rest, stopped) in [
            (&[][..], "ab", &[0, 5, 1][..], &["", "", ""][..], "", true),
            (MARKERS, "ab", &[0, 5, 1], &["", "a<|im_end|>", "b"], "", false),
            (MARKERS, "im", &[0, 5, 1], &["a", "<|im_end|>", "b"], "", false),
            (MARKERS, ">b", &[0, 5, 1], &["a", "<|im_end|>", "b"], "", false),
            (MARKERS, "", &[3, 5, 4], &["", "\u{fffd}<|im_end|>", "\u{fffd}"], "", false),
            (MARKERS, "b", &[5, 1, 5], &["<|im_end|>", "", ""], "", true),
        ] {
            let shown = shown.iter().map(ToString::to_string).collect();
            let expected = (shown, rest.to_owned(), stopped);
            assert_eq!(answer_showing(markers, stop, tokens), expected, "{stop:?} in {tokens:?}");
        }
    }
}
