//! Records that are posted, in a program that was built without HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;

use crate::{Error, Feature, Halt, HttpLimits, Outlet, Source, SourceName};

/// A secret that whoever posts must know: none can be read, since this program was built without
/// HTTP.
#[derive(Clone, Debug)]
pub struct BearerToken(Infallible);

impl BearerToken {
    /// Reads nothing.
    ///
    /// # Errors
    /// [`Error::NotBuilt`], always.
    pub fn new(_text: &str) -> Result<Self, Error> {
        Err(Error::NotBuilt {
            feature: Feature::Http,
        })
    }
}

/// An address at which records may be posted: there is none, since this program was built without
/// HTTP.
#[derive(Debug)]
pub struct HttpListener(Infallible);

impl HttpListener {
    /// Listens nowhere.
    ///
    /// # Errors
    /// [`Error::NotBuilt`], always.
    pub fn bind(
        _address: &str,
        _token: Option<BearerToken>,
        _limits: HttpLimits,
    ) -> Result<Self, Error> {
        Err(Error::NotBuilt {
            feature: Feature::Http,
        })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        match self.0 {}
    }

    /// The source of the records that are posted under a name.
    ///
    /// # Errors
    /// None: there is no listener to ask.
    pub fn source(&self, _name: impl Into<String>) -> Result<Http, Error> {
        match self.0 {}
    }
}

/// The records that are posted to one stream of an [`HttpListener`].
#[derive(Debug)]
pub struct Http(Infallible);

impl Source for Http {
    fn name(&self) -> &SourceName {
        match self.0 {}
    }

    fn run(self: Box<Self>, _out: &Outlet) -> Result<(), Halt> {
        match self.0 {}
    }
}
