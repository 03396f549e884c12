//! Routes of llama.cpp's server that OpenAI's API has not: texts in its own form, gaps, templates, and how the server is set up.

pub(super) mod completion;
mod completion_wire;
pub(super) mod infill;
pub(super) mod server;
pub(super) mod template;
