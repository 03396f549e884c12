//! Admission: each request asks what its tenant may have in hand before any work is done for it.
//!
//! A request holds a [`Ticket`] from its head to the end of its last answer. The ticket counts three things: answers, bytes
//! of bodies, and tokens of prompts. Each has a limit for all requests together, and one for those of a tenant, so that no
//! tenant takes all. A ticket gives back what it counts when it is dropped, so whatever ends a request frees its room: an
//! answer, an error, a client that goes away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::ApiError;
use crate::options::ServerOptions;

/// What a ticket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Answers that wait or run. A request that is being read or prepared is one.
    Answers,
    /// Bytes of bodies that are being read, or wait to be prepared, and what wires keep of them until they are answered.
    BodyBytes,
    /// Tokens of prompts and predictions whose answers wait.
    QueuedTokens,
}

use Resource::{Answers, BodyBytes, QueuedTokens};

/// An amount of each resource.
type Amounts = [usize; Resource::ALL.len()];

impl Resource {
    pub(crate) const ALL: [Self; 3] = [Answers, BodyBytes, QueuedTokens];

    /// What its amounts are called.
    fn unit(self) -> &'static str {
        match self {
            Answers => "answers waiting or running",
            BodyBytes => "bytes of requests that are read or wait to be prepared",
            QueuedTokens => "tokens of prompts and predictions waiting",
        }
    }

    /// The options that its limit is set by.
    fn options(self) -> &'static str {
        match self {
            Answers => "--max-queue and --parallel",
            BodyBytes => "--max-body-memory",
            QueuedTokens => "--max-queued-tokens",
        }
    }

    /// The name of a refusal for programs.
    fn code(self) -> &'static str {
        match self {
            Answers => "queue_full",
            BodyBytes => "body_memory_full",
            QueuedTokens => "queued_tokens_full",
        }
    }
}

/// What all requests have in hand, and what they may have.
pub(crate) struct Admission {
    limits: Amounts,
    /// The most of one tenant.
    tenant_limits: Amounts,
    tenant_percent: usize,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: Amounts,
    /// Of tenants that have something in hand.
    tenants: HashMap<Arc<str>, Amounts>,
}

/// What one request has in hand. Dropping it gives that back.
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    tenant: Arc<str>,
    held: Amounts,
}

impl Admission {
    /// Nothing in hand yet, for a server of so many models.
    pub(crate) fn new(options: &ServerOptions, models: usize) -> Arc<Self> {
        let running = options.parallel.saturating_mul(models);
        let limits =
            [options.max_queue.saturating_add(running), options.max_body_memory, options.max_queued_tokens];
        let tenant_percent = options.tenant_percent();
        let tenant_limits = limits.map(|limit| percent_of(limit, tenant_percent));
        Arc::new(Self { limits, tenant_limits, tenant_percent, counts: Mutex::default() })
    }

    /// Takes a request of `tenant` in hand whose body is of `body_bytes` at most.
    ///
    /// # Errors
    /// If the tenant, or all together, have as much in hand as they may.
    pub(crate) fn admit(self: &Arc<Self>, tenant: &Arc<str>, body_bytes: usize) -> Result<Ticket, ApiError> {
        let (admission, tenant) = (Arc::clone(self), Arc::clone(tenant));
        let mut ticket = Ticket { admission, tenant, held: Amounts::default() };
        ticket.hold(Answers, 1)?;
        ticket.hold(BodyBytes, body_bytes)?;
        Ok(ticket)
    }

    /// What all requests have in hand of a resource.
    pub(crate) fn in_hand(&self, resource: Resource) -> usize {
        self.counts().all[resource as usize]
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts for a request of `tenant` that holds `amount` of a resource from now on, in place of less, which it `had`.
    fn take(&self, tenant: &Arc<str>, resource: Resource, had: usize, amount: usize) -> Result<(), ApiError> {
        let more = amount - had;
        let mut counts = self.counts();
        let Counts { all, tenants } = &mut *counts;
        let (all, limit) = (&mut all[resource as usize], self.limits[resource as usize]);
        let tenant_limit = self.tenant_limits[resource as usize];
        let of_tenant = tenants.get(tenant).map_or(0, |held| held[resource as usize]);
        if tenant_limit < limit && of_tenant.saturating_add(more) > tenant_limit {
            let percent = self.tenant_percent;
            let whose = format!("one key may have {tenant_limit} ({percent} % by --tenant-share)");
            return Err(refusal(resource, ("this key", &whose), tenant_limit, of_tenant - had, amount));
        }
        if all.saturating_add(more) > limit {
            let whose = format!("this server may have {limit}");
            return Err(refusal(resource, ("this server", &whose), limit, *all - had, amount));
        }
        *all += more;
        tenants.entry(Arc::clone(tenant)).or_default()[resource as usize] += more;
        Ok(())
    }

    /// Takes what a ticket gives back out of what its tenant has in hand.
    fn give_back(&self, tenant: &Arc<str>, amounts: Amounts) {
        let mut counts = self.counts();
        let Counts { all, tenants } = &mut *counts;
        let subtract = |from: &mut Amounts| {
            from.iter_mut().zip(amounts).for_each(|(held, amount)| *held = held.saturating_sub(amount));
        };
        subtract(all);
        if let Some(held) = tenants.get_mut(tenant) {
            subtract(held);
            if *held == Amounts::default() {
                tenants.remove(tenant);
            }
        }
    }
}

/// Why a request that needs `amount` of a resource is refused to someone who has `held` of `limit` besides.
fn refusal(
    resource: Resource,
    (who, may_have): (&str, &str),
    limit: usize,
    held: usize,
    amount: usize,
) -> ApiError {
    let (unit, options) = (resource.unit(), resource.options());
    if amount > limit {
        // It would be refused for ever, so coming again is no way out.
        let message =
            format!("the request needs {amount} {unit}; {may_have}, see {options}: ask for less at a time");
        return ApiError::more_than_fits(message);
    }
    let message = format!(
        "{who} has {held} {unit}, and the request needs {amount} more; {may_have}, see {options}: try again later"
    );
    ApiError::rate_limited(resource.code(), message)
}

/// A percentage of a limit, at least 1.
fn percent_of(limit: usize, percent: usize) -> usize {
    let share = limit as u128 * percent as u128;
    (share.div_ceil(100) as usize).max(1)
}

impl Ticket {
    /// Whose it is.
    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Holds so much of a resource from now on, in place of what it held.
    ///
    /// # Errors
    /// If that is more than may be. It holds what it held then.
    pub(crate) fn hold(&mut self, resource: Resource, amount: usize) -> Result<(), ApiError> {
        let held = &mut self.held[resource as usize];
        if amount >= *held {
            self.admission.take(&self.tenant, resource, *held, amount)?;
        } else {
            let mut back = Amounts::default();
            back[resource as usize] = *held - amount;
            self.admission.give_back(&self.tenant, back);
        }
        *held = amount;
        Ok(())
    }

    /// Hands so much of what it holds to a ticket of its own.
    pub(crate) fn split(&mut self, resource: Resource, amount: usize) -> Self {
        let held = &mut self.held[resource as usize];
        let amount = amount.min(*held);
        *held -= amount;
        let mut split = Amounts::default();
        split[resource as usize] = amount;
        Self { admission: Arc::clone(&self.admission), tenant: Arc::clone(&self.tenant), held: split }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.held != Amounts::default() {
            self.admission.give_back(&self.tenant, self.held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(limits: Amounts, tenant_percent: usize) -> Arc<Admission> {
        let tenant_limits = limits.map(|limit| percent_of(limit, tenant_percent));
        Arc::new(Admission { limits, tenant_limits, tenant_percent, counts: Mutex::default() })
    }

    fn in_hand(admission: &Admission) -> Amounts {
        Resource::ALL.map(|resource| admission.in_hand(resource))
    }

    #[test]
    fn a_ticket_counts_until_its_last_part_is_dropped() {
        let (admission, tenant) = (admission([10, 100, 1000], 100), Arc::from("a"));
        let mut ticket = admission.admit(&tenant, 60).unwrap();
        ticket.hold(BodyBytes, 50).unwrap();
        ticket.hold(Answers, 3).unwrap();
        ticket.hold(QueuedTokens, 700).unwrap();
        let answer = ticket.split(Answers, 1);
        let tokens = ticket.split(QueuedTokens, 900);
        assert_eq!(in_hand(&admission), [3, 50, 700]);
        drop(ticket);
        assert_eq!(in_hand(&admission), [1, 0, 700]);
        drop((answer, tokens));
        assert_eq!(in_hand(&admission), [0; 3]);
        assert!(admission.counts().tenants.is_empty(), "who has nothing in hand takes no memory");
    }

    #[test]
    fn what_is_refused_changes_nothing_and_says_whose_limit_it_meets() {
        let admission = admission([10, 100, 1000], 50);
        let tenants: [Arc<str>; 3] = ["a", "b", "c"].map(Arc::from);
        let mut ticket = admission.admit(&tenants[0], 0).unwrap();
        ticket.hold(Answers, 4).unwrap();
        let refused = ticket.hold(Answers, 6).unwrap_err();
        assert!(refused.message().contains("needs 6 answers"), "{}", refused.message());
        let mut other = admission.admit(&tenants[0], 0).unwrap();
        let refused = other.hold(Answers, 2).unwrap_err();
        assert!(refused.message().starts_with("this key has 4 answers"), "{}", refused.message());
        assert!(refused.message().contains("one key may have 5 (50 % by --tenant-share)"));
        assert!(admission.admit(&tenants[0], 0).is_err());
        let mut second = admission.admit(&tenants[1], 0).unwrap();
        second.hold(Answers, 5).unwrap();
        let Err(refused) = admission.admit(&tenants[2], 0) else { panic!("all is taken") };
        assert!(refused.message().starts_with("this server has 10 answers"), "{}", refused.message());
        assert_eq!(in_hand(&admission), [10, 0, 0]);
        drop((ticket, other, second));
        assert_eq!(in_hand(&admission), [0; 3]);
    }
}
