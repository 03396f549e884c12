//! Stop strings in streamed text: found across token boundaries, and no part of one is ever shown.

/// Looks for stop strings in text that arrives in pieces.
///
/// The stop string that is complete first counts, wherever the pieces are cut; of two that end together the
/// longer. Text that may be the beginning of one is held back until that is decided.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    strings: Vec<String>,
    held: String,
    found: Option<String>,
}

/// What came of a piece of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopCheck {
    /// Text to show now: it is in front of any stop string and cannot be part of one.
    pub text: String,
    /// Whether a stop string is complete: nothing more is to be shown.
    pub stopped: bool,
}

impl StopStrings {
    /// Watches for `strings`; empty ones are ignored.
    pub fn new(strings: impl IntoIterator<Item = String>) -> Self {
        let strings = strings.into_iter().filter(|string| !string.is_empty()).collect();
        Self { strings, held: String::new(), found: None }
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, piece: &str) -> StopCheck {
        self.held.push_str(piece);
        let matches = self.strings.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        if let Some((end, start)) = matches.min() {
            let mut text = std::mem::take(&mut self.held);
            self.found = Some(text[start..end].to_owned());
            text.truncate(start);
            return StopCheck { text, stopped: true };
        }
        let may_begin_a_stop =
            |start: &usize| self.strings.iter().any(|stop| stop.starts_with(&self.held[*start..]));
        let boundaries = self.held.char_indices().map(|(start, _)| start);
        let hold_from = boundaries.clone().find(may_begin_a_stop).unwrap_or(self.held.len());
        let rest = self.held.split_off(hold_from);
        StopCheck { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// The stop string that was complete first.
    pub fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// The text still held back, once no more will come: it turned out to be no stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is shown when `pieces` arrive, and whether a stop string was found.
    fn stream(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut stop_strings = StopStrings::new(stops.iter().map(ToString::to_string));
        let mut shown = String::new();
        for piece in pieces {
            let check = stop_strings.push(piece);
            shown += &check.text;
            if check.stopped {
                return (shown, true);
            }
        }
        (shown + &stop_strings.finish(), false)
    }

    #[test]
    fn a_stop_string_is_found_across_pieces_and_none_of_it_shown() {
        let cases: &[(&[&str], &[&str], &str, bool)] = &[
            (&["\n\n"], &["one\n", "\ntwo"], "one", true),
            (&["</s>"], &["a<", "/", "s", ">b"], "a", true),
            (&["</s>"], &["a<", "/", "b>"], "a</b>", false),
            (&["aab"], &["a", "a", "a", "b"], "a", true),
            (&["abcd", "bc"], &["xab", "cd"], "xa", true),
            (&["stop"], &["no st"], "no st", false),
            (&["été"], &["l'é", "té"], "l'", true),
            (&["", "x"], &["a", "b"], "ab", false),
            (&[], &["a", "b"], "ab", false),
        ];
        for (stops, pieces, shown, stopped) in cases {
            assert_eq!(stream(stops, pieces), (shown.to_string(), *stopped), "{stops:?} in {pieces:?}");
        }
    }

    #[test]
    fn the_stop_string_that_was_complete_first_is_told() {
        for (text, found) in [("xabcd", Some("bc")), ("a", None), ("abd", None), ("été", Some("été"))] {
            let mut stop_strings = StopStrings::new(["abcd", "bc", "c", "été"].map(str::to_owned));
            for letter in text.chars() {
                if stop_strings.push(&letter.to_string()).stopped {
                    break;
                }
            }
            assert_eq!(stop_strings.found(), found, "{text}");
        }
    }

    #[test]
    fn only_what_may_begin_a_stop_string_is_held_back() {
        let mut stop_strings = StopStrings::new(["END.".to_string()]);
        assert_eq!(stop_strings.push("the EN").text, "the ");
        assert_eq!(stop_strings.push("TRY").text, "ENTRY");
    }

    proptest! {
        #[test]
        fn the_text_shown_does_not_depend_on_where_it_was_cut(
            text in "[abé]{0,40}",
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let chars: Vec<char> = text.chars().collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
            cuts.extend([0, chars.len()]);
            cuts.sort_unstable();
            let pieces: Vec<String> = cuts.windows(2).map(|w| chars[w[0]..w[1]].iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let letters: Vec<String> = chars.iter().map(char::to_string).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            let (shown, stopped) = stream(&stops, &pieces);
            prop_assert_eq!(stream(&stops, &letters), (shown.clone(), stopped));
            prop_assert_eq!(stopped, stops.iter().any(|stop| text.contains(stop)));
            prop_assert!(text.starts_with(&shown) && (stopped || shown == text));
        }
    }
}
