//! What is a subscriber told?

use std::fmt;
use std::sync::Arc;

use perennial_views::Epoch;

/// A moment of a view that a client may go on from: the epoch, and whose epochs these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The origin: a state folder has one for its life, an engine without one another each time.
    pub origin: u64,
    /// The epoch.
    pub epoch: Epoch,
}

impl EventId {
    /// Reads what [`fmt::Display`] wrote; none if it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (origin, epoch) = text.trim().split_once('.')?;
        let id = Self {
            origin: u64::from_str_radix(origin, 16).ok()?,
            epoch: epoch.parse().ok()?,
        };
        // One moment, one text.
        (id.to_string() == text.trim()).then_some(id)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.origin, self.epoch)
    }
}

/// Something that a subscriber is told. `docs/serve.md` has all of them.
#[derive(Clone, Debug)]
pub struct Event {
    /// What it is: `snapshot`, `answer`, `row`, `up_to_date`, `epoch`, …; empty for one that says only
    /// that the connection lives.
    pub name: &'static str,
    /// Where a client may go on from that has got this far.
    pub id: Option<EventId>,
    /// What it says, as a JSON object.
    pub data: Arc<str>,
}

impl Event {
    pub(super) fn new(name: &'static str, data: impl Into<Arc<str>>) -> Self {
        Self {
            name,
            id: None,
            data: data.into(),
        }
    }

    pub(super) fn json(name: &'static str, data: &serde_json::Value) -> Self {
        Self::new(name, data.to_string())
    }

    pub(super) fn at(self, id: EventId) -> Self {
        Self {
            id: Some(id),
            ..self
        }
    }

    /// That the connection lives.
    pub(super) fn heartbeat() -> Self {
        Self::new("", "")
    }

    /// As an event of SSE.
    pub fn write_sse(&self, out: &mut String) {
        if self.name.is_empty() {
            out.push_str(":\n\n");
            return;
        }
        out.push_str("event: ");
        out.push_str(self.name);
        if let Some(id) = self.id {
            out.push_str("\nid: ");
            out.push_str(&id.to_string());
        }
        // JSON as it is written here has no line breaks.
        out.push_str("\ndata: ");
        out.push_str(&self.data);
        out.push_str("\n\n");
    }

    /// As a line of NDJSON.
    pub fn write_line(&self, out: &mut String) {
        if self.name.is_empty() {
            out.push('\n');
            return;
        }
        out.push_str("{\"event\":\"");
        out.push_str(self.name);
        out.push('"');
        if let Some(id) = self.id {
            out.push_str(",\"id\":\"");
            out.push_str(&id.to_string());
            out.push('"');
        }
        let fields = self.data.strip_prefix('{').unwrap_or(&self.data);
        if fields != "}" {
            out.push(',');
        }
        out.push_str(fields);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_in_no_other_way() {
        let id = EventId {
            origin: 0x9f2c,
            epoch: 7,
        };
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        for wrong in [
            "",
            ".",
            "9f2c.7",
            "0000000000009f2c.",
            "0000000000009f2c.07",
            "x.7",
            "../7",
        ] {
            assert_eq!(EventId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_line_and_an_event_say_the_same() {
        let id = EventId {
            origin: 1,
            epoch: 7,
        };
        let event = Event::json("up_to_date", &serde_json::json!({"epoch": 7})).at(id);
        let (mut line, mut sse) = (String::new(), String::new());
        event.write_line(&mut line);
        event.write_sse(&mut sse);
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["event"], "up_to_date");
        assert_eq!(line["id"], "0000000000000001.7");
        assert_eq!(line["epoch"], 7);
        assert_eq!(
            sse,
            "event: up_to_date\nid: 0000000000000001.7\ndata: {\"epoch\":7}\n\n"
        );
        let mut empty = String::new();
        Event::new("end", "{}").write_line(&mut empty);
        assert_eq!(empty, "{\"event\":\"end\"}\n");
    }
}
