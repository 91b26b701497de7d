//! Topics as sinks, in a program that was built without Kafka.

use std::convert::Infallible;

use crate::{Delivery, Error, Feature, Sink, StopFlag};

/// A topic as a sink: none can be opened, since this program was built without Kafka.
#[derive(Debug)]
pub struct KafkaSink(Infallible);

impl KafkaSink {
    /// Opens nothing.
    ///
    /// # Errors
    /// [`Error::NotBuilt`], always.
    pub fn open(_servers: impl Into<String>, _topic: impl Into<String>) -> Result<Self, Error> {
        Err(Error::NotBuilt {
            feature: Feature::Kafka,
        })
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

    /// Makes each epoch one transaction under this id.
    ///
    /// # Errors
    /// None: there is nothing to set.
    pub fn transactional(self, _id: impl Into<String>) -> Result<Self, Error> {
        Ok(self)
    }
}

impl Sink for KafkaSink {
    fn name(&self) -> &str {
        match self.0 {}
    }

    fn deliver(&mut self, _delivery: &Delivery, _stop: &StopFlag) -> Result<(), Error> {
        match self.0 {}
    }
}
