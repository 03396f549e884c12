//! Tokens, as numbers.

/// The id of a token in the model's vocabulary. The greatest number is none.
pub type TokenId = u32;
