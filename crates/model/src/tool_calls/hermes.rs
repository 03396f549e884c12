//! Calls as Hermes and Qwen write them: JSON between markers, anywhere in the answer.

use super::call::{CALL_BEGIN, CALL_END, ToolDelta, read_json, release};
use super::json_scanner::{JsonScanner, Progress};

/// Finds calls in an answer that arrives in pieces. Each character is looked at a bounded number of times: a call is
/// followed as it comes, and what turns out to be none broke at the first character that no call could have.
#[derive(Clone, Debug, Default)]
pub(super) struct Hermes {
    /// Text of which it is not decided what it is.
    held: String,
    place: Place,
}

/// Where the parser is. Positions are bytes of the text that is held.
#[derive(Clone, Debug)]
enum Place {
    /// In content. All before `space_end` is white space, which belongs to the markup if a call follows.
    Content { space_end: usize },
    /// Behind a call, where white space is markup.
    BehindCall,
    /// Behind a [`CALL_BEGIN`].
    Call(Call),
}

impl Default for Place {
    fn default() -> Self {
        Self::Content { space_end: 0 }
    }
}

/// What stands behind a [`CALL_BEGIN`], as far as it was read.
#[derive(Clone, Debug)]
struct Call {
    /// Where the object begins, behind the marker.
    body: usize,
    /// What was read.
    read: usize,
    scanner: JsonScanner,
    /// Where the object ends, once it has.
    body_end: Option<usize>,
    /// How much of [`CALL_END`] was read behind it.
    end_marker: usize,
}

/// What a [`Call`] comes to.
enum Reading {
    Call(ToolDelta),
    NoCall,
    Undecided,
}

impl Hermes {
    pub(super) fn push(&mut self, text: &str, deltas: &mut Vec<ToolDelta>) {
        self.held.push_str(text);
        self.decide(false, deltas);
    }

    pub(super) fn finish(&mut self, deltas: &mut Vec<ToolDelta>) {
        self.decide(true, deltas);
    }

    fn decide(&mut self, at_end: bool, deltas: &mut Vec<ToolDelta>) {
        // What stands before `decided` is told; it is dropped once, at the end.
        let mut decided = 0;
        loop {
            match &mut self.place {
                Place::BehindCall => {
                    let rest = &self.held[decided..];
                    decided += rest.len() - rest.trim_start().len();
                    if decided == self.held.len() {
                        break;
                    }
                    self.place = Place::Content { space_end: decided };
                }
                Place::Content { space_end } => {
                    let (marker, is_whole) = match find_marker(&self.held[*space_end..]) {
                        Some((at, is_whole)) => (*space_end + at, is_whole),
                        None => (self.held.len(), false),
                    };
                    let content = self.held[*space_end..marker].trim_end().len();
                    // White space alone waits for what follows it.
                    let certain = match content {
                        _ if at_end && !is_whole => self.held.len(),
                        0 => decided,
                        content => *space_end + content,
                    };
                    release(&self.held[decided..certain], deltas);
                    decided = certain;
                    *space_end = marker.max(certain);
                    if !is_whole {
                        break;
                    }
                    self.place = Place::Call(Call::behind(marker));
                }
                Place::Call(call) => match call.read(&self.held, at_end) {
                    Reading::Call(delta) => {
                        deltas.push(delta);
                        decided = call.read;
                        self.place = Place::BehindCall;
                    }
                    Reading::NoCall => {
                        // A call may yet stand behind the marker.
                        release(&self.held[decided..call.body], deltas);
                        decided = call.body;
                        self.place = Place::Content { space_end: decided };
                    }
                    Reading::Undecided => break,
                },
            }
        }
        self.held.drain(..decided);
        match &mut self.place {
            Place::Content { space_end } => *space_end -= decided,
            Place::BehindCall => {}
            Place::Call(call) => call.shift(decided),
        }
    }
}

/// Where a [`CALL_BEGIN`] stands in `text`, or begins at its end, and whether it is whole.
fn find_marker(text: &str) -> Option<(usize, bool)> {
    if let Some(at) = text.find(CALL_BEGIN) {
        return Some((at, true));
    }
    let last = text.len() - text.len().min(CALL_BEGIN.len() - 1);
    let at = text.as_bytes()[last..].iter().rposition(|&byte| byte == b'<')? + last;
    CALL_BEGIN.starts_with(&text[at..]).then_some((at, false))
}

impl Call {
    /// Behind the marker that begins at `marker`.
    fn behind(marker: usize) -> Self {
        let body = marker + CALL_BEGIN.len();
        Self { body, read: body, scanner: JsonScanner::default(), body_end: None, end_marker: 0 }
    }

    /// Reads on in `held`.
    fn read(&mut self, held: &str, at_end: bool) -> Reading {
        while self.body_end.is_none() {
            let Some(character) = held[self.read..].chars().next() else {
                return if at_end { Reading::NoCall } else { Reading::Undecided };
            };
            self.read += character.len_utf8();
            match self.scanner.push(character) {
                Progress::Open => {}
                Progress::Complete => self.body_end = Some(self.read),
                Progress::Broken => return Reading::NoCall,
            }
        }
        while self.end_marker < CALL_END.len() {
            let Some(character) = held[self.read..].chars().next() else { break };
            if CALL_END[self.end_marker..].starts_with(character) {
                self.end_marker += character.len_utf8();
            } else if self.end_marker > 0 || !character.is_whitespace() {
                return Reading::NoCall;
            }
            self.read += character.len_utf8();
        }
        if self.end_marker < CALL_END.len() && !at_end {
            return Reading::Undecided;
        }
        let object = &held[self.body..self.body_end.unwrap_or(self.read)];
        let call = read_json(object).ok().flatten().and_then(|(call, _)| call.into_delta());
        call.map_or(Reading::NoCall, Reading::Call)
    }

    /// The first `bytes` bytes of what is held are gone.
    fn shift(&mut self, bytes: usize) {
        self.body -= bytes;
        self.read -= bytes;
        self.body_end = self.body_end.map(|end| end - bytes);
    }
}
