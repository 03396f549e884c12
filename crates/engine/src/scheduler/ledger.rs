//! What tenants have been given: the measure by which the next place goes to one of them.
//!
//! Each tenant has a count of the tokens that were computed for it, of prompts and of answers alike, and the tenant of the
//! least count comes next. A tenant that was away starts at the least count of those that are here: it is not paid for the
//! time in which it asked for nothing. (Virtual time of fair queueing; tokens for packets.)

use std::collections::BTreeMap;
use std::sync::Arc;

/// Tokens served, by tenant.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    served: BTreeMap<Arc<str>, u64>,
}

impl Ledger {
    /// Notes that `tenant` comes with a request while the tenants for which `is_active` is true have some.
    pub(super) fn enter(&mut self, tenant: &Arc<str>, is_active: impl Fn(&str) -> bool) {
        let active = self.served.iter().filter(|(tenant, _)| is_active(tenant));
        let Some(least) = active.map(|(_, &served)| served).min() else {
            // Nobody is here to whom anything could be owed.
            self.served.clear();
            self.served.insert(Arc::clone(tenant), 0);
            return;
        };
        // Whoever has had more than its part still has when it comes back; others are as if they were new.
        self.served.retain(|tenant, served| *served > least || is_active(tenant));
        let served = self.served.entry(Arc::clone(tenant)).or_insert(least);
        *served = least.max(*served);
    }

    /// Counts tokens that were computed for `tenant`.
    pub(super) fn charge(&mut self, tenant: &Arc<str>, tokens: usize) {
        *self.served.entry(Arc::clone(tenant)).or_insert(0) += tokens as u64;
    }

    /// Tokens that `tenant` has been given, on the scale of those that are here.
    pub(super) fn served(&self, tenant: &str) -> u64 {
        self.served.get(tenant).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_was_away_is_not_paid_for_it_and_does_not_lose_its_debt() {
        let [a, b, c] = ["a", "b", "c"].map(Arc::<str>::from);
        let mut ledger = Ledger::default();
        ledger.enter(&a, |_| false);
        ledger.charge(&a, 1000);
        ledger.enter(&b, |tenant| tenant == "a");
        assert_eq!(ledger.served("b"), 1000);
        ledger.charge(&b, 70);
        ledger.charge(&a, 10);
        // b goes and comes back.
        ledger.enter(&b, |tenant| tenant == "a");
        assert_eq!((ledger.served("a"), ledger.served("b")), (1010, 1070));
        // a has not had its part when b is forgotten: nobody remembers less than the least.
        ledger.charge(&a, 500);
        ledger.enter(&c, |tenant| tenant == "a");
        assert_eq!((ledger.served("b"), ledger.served("c")), (0, 1510));
        ledger.enter(&b, |tenant| tenant == "a" || tenant == "c");
        assert_eq!(ledger.served("b"), 1510);
        ledger.enter(&a, |_| false);
        assert_eq!(ledger.served("a"), 0, "an idle scheduler owes nobody");
    }
}
