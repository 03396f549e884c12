//! What an error says of what a client has sent.

use std::borrow::Cow;

/// Characters of a name, at most: longer than any that has a meaning here.
const LONGEST_NAME: usize = 100;

/// Characters of an error's message, at most.
const LONGEST_MESSAGE: usize = 2000;

/// A name that a client has sent, cut where it is longer than names are.
pub(crate) fn excerpt(name: &str) -> Cow<'_, str> {
    cut(name, LONGEST_NAME)
}

/// A message, cut where it is longer than anyone reads: it may quote what a client has sent.
pub(crate) fn message(text: String) -> String {
    match cut(&text, LONGEST_MESSAGE) {
        Cow::Borrowed(_) => text,
        Cow::Owned(cut) => cut,
    }
}

fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    match text.char_indices().nth(longest) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_too_long_is_cut_and_between_characters() {
        assert_eq!(excerpt("temperature"), "temperature");
        assert_eq!(excerpt(&"é".repeat(LONGEST_NAME)), "é".repeat(LONGEST_NAME));
        assert_eq!(excerpt(&"é".repeat(1 << 20)), format!("{}…", "é".repeat(LONGEST_NAME)));
        assert_eq!(message("x".repeat(5000)).chars().count(), LONGEST_MESSAGE + 1);
    }
}
