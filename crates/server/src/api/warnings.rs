//! What was passed over of a request that is answered all the same: told to its client in a header, and to the operator in the
//! log.

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

const HEADER: HeaderName = HeaderName::from_static("x-lookahead-warning");

/// Bytes of the header, at most: a client may send anything any number of times.
const MAX_BYTES: usize = 1 << 10;

/// What was passed over.
#[derive(Debug, Default)]
pub(super) struct Warnings(Vec<String>);

impl Warnings {
    /// Notes something, once.
    pub(super) fn add(&mut self, warning: String) {
        if self.len() + warning.len() <= MAX_BYTES && !self.0.contains(&warning) {
            self.0.push(warning);
        }
    }

    fn len(&self) -> usize {
        self.0.iter().map(|warning| warning.len() + 2).sum()
    }

    /// Tells what was noted.
    pub(super) fn tell(&self, response: &mut Response) {
        if self.0.is_empty() {
            return;
        }
        let text = self.0.join("; ");
        tracing::info!(
            warnings = self.0.len(),
            "answered a request without parts of it; its client is told which"
        );
        // A header takes visible ASCII, and names come from the client.
        let visible = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
        if let Ok(value) = HeaderValue::from_str(&text.chars().map(visible).collect::<String>()) {
            response.headers_mut().insert(HEADER, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_told_once_in_visible_characters_and_in_a_bounded_header() {
        let mut warnings = Warnings::default();
        let mut response = Response::default();
        warnings.tell(&mut response);
        assert!(response.headers().is_empty());
        for name in ["web_search", "web_search", "é\r\nSet-Cookie: x", &"x".repeat(5000)] {
            warnings.add(format!("tools: {name} is left out"));
        }
        warnings.tell(&mut response);
        let told = response.headers()[&HEADER].to_str().unwrap();
        assert_eq!(told, "tools: web_search is left out; tools: ???Set-Cookie: x is left out");
    }
}
