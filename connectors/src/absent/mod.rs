//! What stands in the rooms that a program is built without?
//!
//! A room behind a feature has a twin here of the same name and the same public items. `lib.rs`
//! and the doors of `sink` and `table` choose between the two, and nobody else asks. The types of
//! a twin have no values: opening one is [`Error::NotBuilt`](crate::Error::NotBuilt), and what
//! would follow cannot be reached. A build without features tells a twin that its room has
//! outgrown; this module is built for its tests alone, so that any build runs them.

mod http;
mod kafka;
mod kafka_sink;
mod webhook;

use crate::{Error, HttpLimits};

#[test]
fn whoever_opens_one_is_told_by_name_what_the_program_was_built_without() {
    let said = |error: Option<Error>| error.map(|error| error.to_string()).unwrap_or_default();
    let kafka = "this program was built without Kafka; build it with --features kafka";
    let http = "this program was built without HTTP; build it with --features http";
    assert_eq!(said(kafka::Kafka::open("s", "a:1", "t").err()), kafka);
    assert_eq!(said(kafka_sink::KafkaSink::open("a:1", "t").err()), kafka);
    let listener = http::HttpListener::bind("127.0.0.1:0", None, HttpLimits::default());
    assert_eq!(said(listener.err()), http);
    assert_eq!(said(http::BearerToken::new(&"x".repeat(16)).err()), http);
    let webhook = webhook::Webhook::open("https://example.com/answers");
    assert_eq!(said(webhook.err()), http);
}
