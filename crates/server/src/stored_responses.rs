//! Responses that are kept for a while, each key's own: what a client may ask for again, and go on from.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lookahead_model::chat_template::Message;

/// Responses of a key that are kept, at most, and what they take in bytes; the oldest go.
const MAX_RESPONSES: usize = 1000;
const MAX_BYTES: usize = 32 << 20;

/// What a message takes besides its texts, and a call of it.
const MESSAGE_BYTES: usize = 256;

/// A response that may be asked for again.
pub(crate) struct StoredResponse {
    pub(crate) id: String,
    /// Its JSON text.
    pub(crate) body: String,
    /// Names of the items of its output.
    pub(crate) item_ids: Vec<String>,
    /// What has been said until then, and the answer, but no instructions.
    pub(crate) conversation: Vec<Message>,
}

/// The responses of all keys.
#[derive(Default)]
pub(crate) struct StoredResponses(Mutex<HashMap<String, OfKey>>);

/// The responses of a key.
#[derive(Default)]
struct OfKey {
    by_id: HashMap<String, Arc<StoredResponse>>,
    /// The oldest first. Those that were removed are among them until they are the oldest.
    ids: VecDeque<String>,
    bytes: usize,
}

/// About what messages take.
pub(crate) fn bytes_of(messages: &[Message]) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let of_message = |message: &Message| {
        let calls = message.tool_calls.iter().map(|call| MESSAGE_BYTES + call.to_string().len());
        let texts = text(&message.reasoning) + text(&message.name) + text(&message.tool_call_id);
        MESSAGE_BYTES + message.content.len() + texts + calls.sum::<usize>()
    };
    messages.iter().map(of_message).sum()
}

impl StoredResponse {
    fn bytes(&self) -> usize {
        let items: usize = self.item_ids.iter().map(|id| id.len() + size_of::<String>()).sum();
        self.id.len() + self.body.len() + items + bytes_of(&self.conversation)
    }
}

impl StoredResponses {
    /// Keeps a response of `tenant`, and lets its oldest ones go where there are too many. One that is larger than all may be
    /// is not kept.
    pub(crate) fn keep(&self, tenant: &str, response: StoredResponse) {
        let bytes = response.bytes();
        if bytes > MAX_BYTES {
            return;
        }
        let mut tenants = self.tenants();
        let own = tenants.entry(tenant.to_owned()).or_default();
        while own.by_id.len() >= MAX_RESPONSES || own.bytes + bytes > MAX_BYTES {
            let Some(oldest) = own.ids.pop_front() else { break };
            own.remove(&oldest);
        }
        own.bytes += bytes;
        own.ids.push_back(response.id.clone());
        own.by_id.insert(response.id.clone(), Arc::new(response));
        if own.ids.len() > 2 * MAX_RESPONSES {
            let OfKey { by_id, ids, .. } = own;
            ids.retain(|id| by_id.contains_key(id));
        }
    }

    /// A response of `tenant` that is still kept.
    pub(crate) fn find(&self, tenant: &str, id: &str) -> Option<Arc<StoredResponse>> {
        self.tenants().get(tenant)?.by_id.get(id).cloned()
    }

    /// Those responses of `tenant` that have these items in their output.
    pub(crate) fn with_items(&self, tenant: &str, items: &HashSet<&str>) -> Vec<Arc<StoredResponse>> {
        let tenants = self.tenants();
        let responses = tenants.get(tenant).into_iter().flat_map(|own| own.by_id.values());
        let has =
            |response: &&Arc<StoredResponse>| response.item_ids.iter().any(|id| items.contains(id.as_str()));
        responses.filter(has).cloned().collect()
    }

    /// Lets a response of `tenant` go; whether it was kept.
    pub(crate) fn remove(&self, tenant: &str, id: &str) -> bool {
        self.tenants().get_mut(tenant).is_some_and(|own| own.remove(id))
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<String, OfKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfKey {
    fn remove(&mut self, id: &str) -> bool {
        let removed = self.by_id.remove(id);
        self.bytes -= removed.as_ref().map_or(0, |response| response.bytes());
        removed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(id: usize, content: &str) -> StoredResponse {
        StoredResponse {
            id: format!("resp_{id}"),
            body: "{}".to_owned(),
            item_ids: vec![format!("msg_{id}")],
            conversation: vec![Message::new("user", content)],
        }
    }

    #[test]
    fn the_oldest_go_where_there_are_too_many() {
        let stored = StoredResponses::default();
        for id in 0..MAX_RESPONSES + 5 {
            stored.keep("a", response(id, "x"));
        }
        assert!(stored.find("a", "resp_4").is_none() && stored.find("a", "resp_5").is_some());
        assert!(stored.find("b", "resp_5").is_none(), "each key's own");
        let large = "x".repeat(MAX_BYTES / 2);
        stored.keep("a", response(5000, &large));
        stored.keep("b", response(5001, "x"));
        stored.keep("a", response(5002, &large));
        assert!(stored.find("a", "resp_5000").is_none() && stored.find("a", "resp_5002").is_some());
        assert!(stored.find("b", "resp_5001").is_some());
        stored.keep("a", response(5003, &"x".repeat(MAX_BYTES)));
        assert!(stored.find("a", "resp_5003").is_none() && stored.find("a", "resp_5002").is_some());
    }

    #[test]
    fn what_is_removed_takes_no_room() {
        let stored = StoredResponses::default();
        for id in 0..5 * MAX_RESPONSES {
            stored.keep("a", response(id, "x"));
            assert!(stored.remove("a", &format!("resp_{id}")) && !stored.remove("a", &format!("resp_{id}")));
        }
        let tenants = stored.tenants();
        assert_eq!((tenants["a"].bytes, tenants["a"].by_id.len()), (0, 0));
        assert!(tenants["a"].ids.len() <= 2 * MAX_RESPONSES);
    }

    #[test]
    fn items_are_found_in_the_responses_that_gave_them() {
        let stored = StoredResponses::default();
        (0..3).for_each(|id| stored.keep("a", response(id, "x")));
        let found = stored.with_items("a", &HashSet::from(["msg_1", "msg_9"]));
        assert_eq!(found.iter().map(|response| response.id.as_str()).collect::<Vec<_>>(), ["resp_1"]);
        assert!(stored.with_items("b", &HashSet::from(["msg_1"])).is_empty());
    }
}
