//! The drafter of plain decoding.

use lookahead_model::TokenId;

use super::draft::{Draft, DraftLimits};
use super::interface::Drafter;

/// No drafts: plain decoding, by the same loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDraft;

impl Drafter for NoDraft {
    fn draft(&mut self, context: &[TokenId], _limits: DraftLimits) -> Draft {
        Draft::root(context)
    }

    fn is_plain(&self) -> bool {
        true
    }
}
