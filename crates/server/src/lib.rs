//! An OpenAI-compatible server around the lookahead engine.
