//! Webhooks as sinks, in a program that was built without HTTP.

use std::convert::Infallible;
use std::time::Duration;

use crate::{Delivery, Error, Feature, Sink, StopFlag};

/// A URL that answers are posted to: none can be opened, since this program was built without
/// HTTP.
#[derive(Debug)]
pub struct Webhook(Infallible);

impl Webhook {
    /// Opens nothing.
    ///
    /// # Errors
    /// [`Error::NotBuilt`], always.
    pub fn open(_url: &str) -> Result<Self, Error> {
        Err(Error::NotBuilt {
            feature: Feature::Http,
        })
    }

    /// Signs each request with this secret.
    ///
    /// # Errors
    /// None: there is nothing to sign.
    pub fn secret(self, _text: &str) -> Result<Self, Error> {
        Ok(self)
    }

    /// The most bytes of rows in one request.
    #[must_use]
    pub fn part_bytes(self, _bytes: usize) -> Self {
        self
    }

    /// How long a receiver may take for one request.
    #[must_use]
    pub fn patience(self, _time: Duration) -> Self {
        self
    }
}

impl Sink for Webhook {
    fn name(&self) -> &str {
        match self.0 {}
    }

    fn deliver(&mut self, _delivery: &Delivery, _stop: &StopFlag) -> Result<(), Error> {
        match self.0 {}
    }
}
