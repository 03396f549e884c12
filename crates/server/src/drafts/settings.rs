//! What is the same for all tenants of a store.

use std::sync::Arc;

use super::layout::Layout;
use crate::metrics::Metrics;
use crate::options::DraftOptions;

/// What is the same for all tenants.
pub(super) struct Settings {
    pub(super) options: DraftOptions,
    /// Of the tokenizer.
    pub(super) fingerprint: u64,
    pub(super) layout: Layout,
    pub(super) metrics: Arc<Metrics>,
}
