//! Topics as sources, in a program that was built without Kafka.

use std::convert::Infallible;
use std::time::Duration;

use crate::{Error, Feature, Format, Halt, Outlet, Source, SourceName};

/// A topic of a Kafka-compatible cluster as a source: none can be opened, since this program was
/// built without Kafka.
#[derive(Debug)]
pub struct Kafka(Infallible);

impl Kafka {
    /// Opens nothing.
    ///
    /// # Errors
    /// [`Error::NotBuilt`], always.
    pub fn open(
        _name: impl Into<String>,
        _servers: impl Into<String>,
        _topic: impl Into<String>,
    ) -> Result<Self, Error> {
        Err(Error::NotBuilt {
            feature: Feature::Kafka,
        })
    }

    /// What the messages are.
    #[must_use]
    pub fn format(self, _format: Format) -> Self {
        self
    }

    /// Settings of the client.
    ///
    /// # Errors
    /// None: there is nothing to set.
    pub fn settings<N: Into<String>, V: Into<String>>(
        self,
        _settings: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error> {
        Ok(self)
    }

    /// The longest message, in bytes.
    #[must_use]
    pub fn message_limit(self, _bytes: usize) -> Self {
        self
    }

    /// How often to ask for the topic's partitions.
    #[must_use]
    pub fn look_every(self, _time: Duration) -> Self {
        self
    }

    /// Whether to end where the topic ended when it was read.
    #[must_use]
    pub fn once(self, _is_once: bool) -> Self {
        self
    }
}

impl Source for Kafka {
    fn name(&self) -> &SourceName {
        match self.0 {}
    }

    fn run(self: Box<Self>, _out: &Outlet) -> Result<(), Halt> {
        match self.0 {}
    }
}
