//! The models on this machine: where they lie, how they are named, and how they get here.
//!
//! Contract: a file with a model's final name is whole. Downloads happen in a [`partial::Partial`] directory
//! beside the models and move to their final name in one step, after their digest was checked; whatever ends
//! a download early leaves at most a hidden directory, which the next download removes.
//!
//! Layout of the store's directory: `pypi/PACKAGE-VERSION/FILE` and `hf/OWNER/REPO/FILE`, each with the
//! file's digest in `FILE.sha256` (in the format of `sha256sum`). Files that users put there themselves are
//! listed as well.

mod digest;
mod disk;
mod fetched;
mod hub;
mod list;
mod model_store;
mod partial;
pub(crate) mod pull;
mod pypi;
mod reference;
pub(crate) mod source;

pub(crate) use list::Listed;
pub(crate) use model_store::ModelStore;
pub(crate) use reference::Reference;
