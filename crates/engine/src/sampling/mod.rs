//! Choosing a token from a row of logits.
//!
//! Contract: the choice at position `i` is a pure function of the row, the tokens before `i`, the parameters
//! and `i` itself. Plain decoding and the verification of a draft tree therefore make the same choice,
//! whatever was drafted, and the same one on every platform: no arithmetic here depends on the system's
//! mathematics library.
//!
//! The processors run in llama.cpp's order: logit bias, what a constraint allows, penalties, top-k, top-p, min-p, temperature, draw. Temperature
//! comes last, so top-p and min-p cut the model's own distribution and a higher temperature only spreads what
//! they left.

mod candidates;
mod log_probability;
mod params;
mod penalties;
mod philox;
mod sampler;
mod weight;

pub use log_probability::TokenLogprobs;
pub(crate) use log_probability::most_likely;
pub use params::{SamplingError, SamplingParams};
pub(crate) use philox::random_bits;
pub use sampler::Sampler;
