//! OpenAI's responses: items in, items out, and what was said kept for a while.

pub(in crate::api) mod create;
mod input;
mod output;
pub(in crate::api) mod stored;
mod wire;
