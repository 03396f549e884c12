//! Conversations in the roles that a chat template bears.
//!
//! Some templates refuse a system message or leave it out, first or in the middle, and some refuse two messages of one
//! role in a row. What is said so is told otherwise then: no word of a conversation is lost, and none is refused that
//! the model could be told.

use std::mem;

use crate::chat_template::{Message, Roles};

const SEPARATOR: &str = "\n\n";

/// Rewrites `messages` in roles that the template bears.
pub(super) fn rewrite(messages: &mut Vec<Message>, roles: Roles) {
    let mut rewritten: Vec<Message> = Vec::with_capacity(messages.len());
    for mut message in mem::take(messages) {
        if message.role == "developer" && !roles.developer {
            "system".clone_into(&mut message.role);
        }
        if is_system(&message) && !roles.system_in_the_middle {
            match rewritten.last_mut() {
                Some(first) if roles.system && is_system(first) => {
                    first.append(SEPARATOR, &message.content);
                    continue;
                }
                None if roles.system => {}
                _ => "user".clone_into(&mut message.role),
            }
        }
        match rewritten.last_mut() {
            Some(last) if !roles.in_a_row && is_one_turn(last, &message) => {
                last.append(SEPARATOR, &message.content);
                last.tool_calls.append(&mut message.tool_calls);
                last.reasoning = match (last.reasoning.take(), message.reasoning) {
                    (Some(first), Some(second)) => Some(first + SEPARATOR + &second),
                    (first, second) => first.or(second),
                };
            }
            _ => rewritten.push(message),
        }
    }
    *messages = rewritten;
}

fn is_system(message: &Message) -> bool {
    matches!(message.role.as_str(), "system" | "developer")
}

/// Whether two messages that follow each other can be one.
fn is_one_turn(last: &Message, next: &Message) -> bool {
    last.role == next.role && matches!(last.role.as_str(), "user" | "assistant") && last.tool_calls.is_empty()
}
