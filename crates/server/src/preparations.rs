//! Places for preparing requests: parsing, templates, tokenizing, grammars, indexes.
//!
//! Preparing computes, so as many requests are prepared at a time as the machine has cores for, and not as many as come.
//! Places go round the tenants that wait for one, in turns, and a tenant has no more than its share of them: a long prompt
//! of one delays another's by its own place at most.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The places, and who waits for one.
pub(crate) struct Preparations {
    /// The most of one tenant.
    most_of_one: usize,
    line: Mutex<Line>,
}

struct Line {
    free: usize,
    /// Places that each tenant has, if any.
    taken: HashMap<Arc<str>, usize>,
    /// Tenants in the order of their next turns, each with those of its requests that wait.
    waiting: VecDeque<(Arc<str>, VecDeque<oneshot::Sender<Place>>)>,
}

/// A place; dropping it makes room for the next.
pub(crate) struct Place {
    preparations: Arc<Preparations>,
    tenant: Arc<str>,
}

impl Preparations {
    /// So many places, of which one tenant may have `most_of_one`.
    pub(crate) fn new(places: usize, most_of_one: usize) -> Arc<Self> {
        let line = Line { free: places.max(1), taken: HashMap::new(), waiting: VecDeque::new() };
        Arc::new(Self { most_of_one: most_of_one.max(1), line: Mutex::new(line) })
    }

    /// Waits for a place. Whoever stops waiting loses the turn.
    pub(crate) async fn place(self: &Arc<Self>, tenant: &Arc<str>) -> Place {
        let (sender, receiver) = oneshot::channel();
        {
            let mut line = self.line();
            match line.waiting.iter_mut().find(|(other, _)| other == tenant) {
                Some((_, senders)) => senders.push_back(sender),
                None => line.waiting.push_back((Arc::clone(tenant), VecDeque::from([sender]))),
            }
        }
        self.hand_out();
        receiver.await.expect("a turn comes before its sender is dropped")
    }

    /// Places that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.line().taken.values().sum()
    }

    /// Gives what places are free to those whose turns they are.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let next = self.line().next(self.most_of_one);
            let Some((tenant, sender)) = next else { return };
            // Outside the lock: the place of one who has stopped waiting is dropped here, which hands it on.
            let _ = sender.send(Place { preparations: Arc::clone(self), tenant });
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Takes a free place for the tenant whose turn it is; that tenant's next turn comes after all others'.
    fn next(&mut self, most_of_one: usize) -> Option<(Arc<str>, oneshot::Sender<Place>)> {
        for (_, senders) in &mut self.waiting {
            senders.retain(|sender| !sender.is_closed());
        }
        self.waiting.retain(|(_, senders)| !senders.is_empty());
        if self.free == 0 {
            return None;
        }
        let may_have_one = |tenant| self.taken.get(tenant).is_none_or(|&taken| taken < most_of_one);
        let turn = self.waiting.iter().position(|(tenant, _)| may_have_one(tenant))?;
        let (tenant, mut senders) = self.waiting.remove(turn)?;
        let sender = senders.pop_front()?;
        if !senders.is_empty() {
            self.waiting.push_back((Arc::clone(&tenant), senders));
        }
        self.free -= 1;
        *self.taken.entry(Arc::clone(&tenant)).or_default() += 1;
        Some((tenant, sender))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.preparations.line();
        line.free += 1;
        if let Some(taken) = line.taken.get_mut(&self.tenant) {
            *taken -= 1;
            if *taken == 0 {
                line.taken.remove(&self.tenant);
            }
        }
        drop(line);
        self.preparations.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Asking = Pin<Box<dyn Future<Output = Place>>>;

    fn ask(preparations: &Arc<Preparations>, tenant: &'static str) -> Asking {
        let preparations = Arc::clone(preparations);
        Box::pin(async move { preparations.place(&Arc::from(tenant)).await })
    }

    fn poll(asking: &mut Asking) -> Option<Place> {
        match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    #[test]
    fn tenants_take_turns_however_many_requests_of_one_wait() {
        let preparations = Preparations::new(1, 1);
        let first = poll(&mut ask(&preparations, "a")).unwrap();
        let mut asking: Vec<_> = ["a", "a", "a", "b", "c", "b"]
            .into_iter()
            .map(|tenant| (tenant, ask(&preparations, tenant)))
            .collect();
        assert!(asking.iter_mut().all(|(_, asking)| poll(asking).is_none()));
        drop(first);
        let mut turns = Vec::new();
        while let Some(index) = (0..asking.len()).find(|&index| {
            let place = poll(&mut asking[index].1);
            place.is_some()
        }) {
            turns.push(asking.remove(index).0);
        }
        assert_eq!(turns, ["a", "b", "c", "a", "b", "a"]);
        assert_eq!(preparations.taken(), 0);
    }

    #[test]
    fn no_tenant_has_more_than_its_share_and_whoever_stops_waiting_hands_the_turn_on() {
        let preparations = Preparations::new(3, 2);
        let mut asking: Vec<Asking> = ["a", "a", "a", "b"].map(|tenant| ask(&preparations, tenant)).into();
        let places: Vec<Option<Place>> = asking.iter_mut().map(poll).collect();
        assert_eq!(places.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, true]);
        // One that stops waiting just after its turn has come.
        let mut later = ask(&preparations, "a");
        assert!(poll(&mut later).is_none());
        let mut places = places.into_iter();
        drop(places.next());
        drop(asking);
        assert!(poll(&mut later).is_some());
        drop(places);
        assert_eq!(preparations.taken(), 0);
    }
}
