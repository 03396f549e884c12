//! What has been said so far, and how much of it the model is told again.

use lookahead_model::TokenId;
use lookahead_model::chat_template::Message;

/// A conversation: a system text, and questions with their answers.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    system: Option<String>,
    turns: Vec<Turn>,
}

#[derive(Debug)]
struct Turn {
    question: String,
    /// What the model thought before it answered.
    reasoning: Option<String>,
    answer: String,
}

/// What the model is given for a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    /// Its tokens.
    pub(super) tokens: Vec<TokenId>,
    /// How many of the oldest turns it leaves out.
    pub(super) left_out: usize,
}

impl Conversation {
    pub(super) fn new(system: Option<String>) -> Self {
        Self { system, turns: Vec::new() }
    }

    /// Sets what the model is told first; `None` for nothing.
    pub(super) fn set_system(&mut self, system: Option<String>) {
        self.system = system;
    }

    /// Forgets all turns.
    pub(super) fn clear(&mut self) {
        self.turns.clear();
    }

    /// The prompt for `question`: the whole conversation, or without as many of its oldest turns as it takes to fit
    /// into `room` tokens. The question itself is never left out, even if it does not fit. `encode` makes tokens of
    /// messages.
    ///
    /// # Errors
    /// Those of `encode`.
    pub(super) fn prompt(
        &self,
        question: &str,
        room: usize,
        encode: impl Fn(Vec<Message>) -> anyhow::Result<Vec<TokenId>>,
    ) -> anyhow::Result<Prompt> {
        let mut left_out = 0;
        loop {
            let tokens = encode(self.messages(left_out, question))?;
            if tokens.len() <= room || left_out == self.turns.len() {
                return Ok(Prompt { tokens, left_out });
            }
            left_out += 1;
        }
    }

    /// Forgets the `count` oldest turns.
    pub(super) fn forget_oldest(&mut self, count: usize) {
        self.turns.drain(..count.min(self.turns.len()));
    }

    /// Adds a turn.
    pub(super) fn add(&mut self, question: String, reasoning: String, answer: String) {
        let reasoning = Some(reasoning).filter(|thoughts| !thoughts.is_empty());
        self.turns.push(Turn { question, reasoning, answer });
    }

    fn messages(&self, left_out: usize, question: &str) -> Vec<Message> {
        let mut messages: Vec<Message> =
            self.system.iter().map(|system| Message::new("system", system)).collect();
        for Turn { question, reasoning, answer } in self.turns.iter().skip(left_out) {
            let answer = Message { reasoning: reasoning.clone(), ..Message::new("assistant", answer) };
            messages.extend([Message::new("user", question), answer]);
        }
        messages.push(Message::new("user", question));
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token for each letter of each message, which is its role's first one. Like some templates, it refuses what
    /// it does not like.
    fn letters(messages: Vec<Message>) -> anyhow::Result<Vec<TokenId>> {
        anyhow::ensure!(messages.iter().all(|message| message.content != "!"), "refused");
        let spelled = |m: Message| vec![u32::from(m.role.as_bytes()[0]); m.content.len()];
        Ok(messages.into_iter().flat_map(spelled).collect())
    }

    fn spelled(prompt: &Prompt) -> String {
        prompt.tokens.iter().map(|&token| char::from(token as u8)).collect()
    }

    #[test]
    fn the_oldest_turns_are_left_out_until_the_rest_fits() {
        let mut conversation = Conversation::new(Some("1".to_owned()));
        conversation.add("22".to_owned(), String::new(), "333".to_owned());
        conversation.add("4".to_owned(), String::new(), "5".to_owned());
        for (room, wanted, left_out) in
            [(9, "suuaaauau", 0), (8, "suau", 1), (4, "suau", 1), (3, "su", 2), (0, "su", 2)]
        {
            let prompt = conversation.prompt("?", room, letters).unwrap();
            assert_eq!((spelled(&prompt).as_str(), prompt.left_out), (wanted, left_out), "{room}");
        }
    }

    #[test]
    fn a_cleared_conversation_keeps_its_system_text_until_that_is_set() {
        let mut conversation = Conversation::new(Some("1".to_owned()));
        conversation.add("2".to_owned(), String::new(), "3".to_owned());
        conversation.clear();
        assert_eq!(spelled(&conversation.prompt("?", 9, letters).unwrap()), "su");
        conversation.set_system(None);
        assert_eq!(spelled(&conversation.prompt("?", 9, letters).unwrap()), "u");
    }

    #[test]
    fn the_model_is_told_its_thoughts_again() {
        let mut conversation = Conversation::default();
        conversation.add("q".to_owned(), "hm".to_owned(), "a".to_owned());
        conversation.add("q".to_owned(), String::new(), "a".to_owned());
        let thoughts: Vec<_> =
            conversation.messages(0, "?").into_iter().map(|message| message.reasoning).collect();
        assert_eq!(thoughts, [None, Some("hm".to_owned()), None, None, None]);
    }

    #[test]
    fn a_question_that_the_template_refuses_is_an_error() {
        let error = Conversation::default().prompt("!", 9, letters).unwrap_err();
        assert_eq!(error.to_string(), "refused");
    }

    #[test]
    fn forgetting_starts_with_the_oldest() {
        let mut conversation = Conversation::default();
        conversation.add("1".to_owned(), String::new(), "22".to_owned());
        conversation.add("333".to_owned(), String::new(), "4444".to_owned());
        conversation.forget_oldest(1);
        assert_eq!(spelled(&conversation.prompt("?", 99, letters).unwrap()), "uuuaaaau");
        conversation.forget_oldest(5);
        assert_eq!(spelled(&conversation.prompt("?", 99, letters).unwrap()), "u");
    }
}
