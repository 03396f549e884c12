//! Where draft trees come from. A drafter may draft anything: verification keeps what the model itself would
//! have said.

mod adversarial;
mod draft;
mod interface;
mod namespace;
mod no_draft;

pub use adversarial::AdversarialDrafter;
pub use draft::{Draft, DraftLimits};
pub use interface::Drafter;
pub use namespace::{DraftPolicy, NamespaceDrafter, spellings};
pub use no_draft::NoDraft;
