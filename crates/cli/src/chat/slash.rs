//! Commands within a chat: lines that begin with a slash.

use crate::arguments::Decoding;

/// What `/help` prints.
pub(super) const HELP: &str = "\
/clear          Forget the conversation; the drafts are kept
/system TEXT    Tell the model this first; without a text, nothing
/plain          Decode one token a pass, for comparison
/lookahead      Decode with drafts again
/drafts         Show accepted drafts in colour, or no longer
/stats          Numbers of this chat
/quit           End the chat, as Ctrl-D does

A backslash at the end of a line continues on the next one. A line that begins with \"\"\" begins a text of several
lines, which ends with \"\"\". Ctrl-C stops an answer and keeps what was said. To send a line that begins with a
slash, put a space before it.";

/// A command within a chat.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slash {
    Help,
    Clear,
    System(Option<String>),
    Decoding(Decoding),
    Drafts,
    Stats,
    Quit,
    /// No such command.
    Unknown(String),
}

impl Slash {
    /// The command that `message` is; `None` if it is for the model.
    pub(super) fn parse(message: &str) -> Option<Self> {
        let line = message.strip_prefix('/')?;
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = argument.trim();
        Some(match name {
            "system" => Self::System((!argument.is_empty()).then(|| argument.to_owned())),
            _ if !argument.is_empty() => Self::Unknown(message.to_owned()),
            "help" | "?" => Self::Help,
            "clear" => Self::Clear,
            "plain" => Self::Decoding(Decoding::Plain),
            "lookahead" => Self::Decoding(Decoding::Lookahead),
            "drafts" => Self::Drafts,
            "stats" => Self::Stats,
            "quit" | "exit" | "bye" => Self::Quit,
            _ => Self::Unknown(message.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_very_beginning_makes_a_command() {
        let unknown = |text: &str| Some(Slash::Unknown(text.to_owned()));
        for (message, command) in [
            ("/clear", Some(Slash::Clear)),
            ("/plain ", Some(Slash::Decoding(Decoding::Plain))),
            ("/system  Be brief. ", Some(Slash::System(Some("Be brief.".to_owned())))),
            ("/system", Some(Slash::System(None))),
            ("/system one\ntwo", Some(Slash::System(Some("one\ntwo".to_owned())))),
            ("/", unknown("/")),
            ("/etc/hosts", unknown("/etc/hosts")),
            ("/clear up this text", unknown("/clear up this text")),
            (" /clear", None),
            ("What is /clear?", None),
            ("", None),
        ] {
            assert_eq!(Slash::parse(message), command, "{message:?}");
        }
    }

    #[test]
    fn the_help_names_every_command() {
        for name in HELP.lines().filter_map(|line| line.strip_prefix('/')) {
            let command = Slash::parse(&format!("/{}", name.split(' ').next().unwrap()));
            assert!(command.is_some_and(|command| !matches!(command, Slash::Unknown(_))), "{name}");
        }
    }
}
