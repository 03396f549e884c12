//! Names of namespaces.

use std::fmt;

use super::error::DraftStoreError;
use crate::auth::is_name;
use crate::excerpt::excerpt;

/// A tenant's namespace: its own, or one within it that its requests name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamespaceName {
    tenant: String,
    within: Option<String>,
}

impl NamespaceName {
    /// The namespace `within` that of `tenant`, or that itself, where the field `what` asks for it.
    pub(crate) fn new(
        what: &'static str,
        tenant: &str,
        within: Option<&str>,
    ) -> Result<Self, DraftStoreError> {
        match within {
            Some(name) if !is_name(name) => {
                Err(DraftStoreError::Name { what, name: excerpt(name).into_owned() })
            }
            within => Ok(Self { tenant: tenant.to_owned(), within: within.map(str::to_owned) }),
        }
    }

    /// Whose it is.
    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// How its files begin. Names have no `+`.
    pub(super) fn stem(&self) -> String {
        match &self.within {
            None => self.tenant.clone(),
            Some(within) => format!("{}+{within}", self.tenant),
        }
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.within {
            None => f.write_str(&self.tenant),
            Some(within) => write!(f, "{}/{within}", self.tenant),
        }
    }
}
