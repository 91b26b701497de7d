//! How are records taken in that another's server was posted?
//!
//! The promises are those of an [`HttpListener`](super::HttpListener): whole requests, tokens, limits.
//! Who may ask, and who accepts connections, is the server's to say.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use http_body_util::Full;
use hyper::Response;
use hyper::body::{Body, Bytes};
use hyper::http::request::Parts;
use perennial_rows::Schema;

use super::routes::{self, Service};
use super::stream::{Others, PostedBatch, Stream, Told};
use super::{Http, open};
use crate::http_limits::HttpLimits;
use crate::{Acks as _, Error, Offset};

/// Takes in what is posted to the streams of a server.
#[derive(Clone, Debug)]
pub struct HttpIntake {
    service: Arc<Service>,
}

impl HttpIntake {
    /// One with no stream yet. Of the limits, those of connections are the server's to keep.
    pub fn new(limits: HttpLimits) -> Self {
        Self {
            service: Arc::new(Service::behind_a_server(limits)),
        }
    }

    /// The source of the records that are posted under a name.
    ///
    /// # Errors
    /// [`Error::NotPostable`] for a name that cannot stand in a path.
    pub fn source(&self, name: impl Into<String>) -> Result<Http, Error> {
        Http::of(&self.service, name.into(), None)
    }

    /// The requests that are posted under a name, for who takes them himself. Records that are not of
    /// these columns, or have others besides, are refused, where there are any.
    ///
    /// # Errors
    /// As [`HttpIntake::source`].
    pub fn inlet(
        &self,
        name: impl Into<String>,
        columns: Option<Schema>,
    ) -> Result<HttpInlet, Error> {
        let (stream, queue) = open(&self.service, name.into())?;
        if let Some(columns) = columns {
            stream.declare(columns, Others::Refused);
        }
        // What an earlier process took in is known to nobody.
        stream.begin();
        Ok(HttpInlet {
            service: self.service.clone(),
            stream,
            queue,
        })
    }

    /// Whether something may be posted under a name.
    pub fn is_open(&self, name: &str) -> bool {
        self.service.knows(name)
    }

    /// Takes records of a stream in, and replies.
    pub async fn post<B>(&self, stream: &str, head: &Parts, body: B) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Send,
    {
        routes::take_in(&self.service, stream, head, body).await
    }

    /// Says whether what a token stands for is visible.
    pub async fn look(&self, token: &str, head: &Parts) -> Response<Full<Bytes>> {
        routes::told(&self.service, token, head).await
    }
}

/// The requests that are posted under a name. Dropping it closes the stream.
#[derive(Debug)]
pub struct HttpInlet {
    service: Arc<Service>,
    stream: Arc<Stream>,
    queue: Receiver<PostedBatch>,
}

impl HttpInlet {
    /// Where requests come out, in order.
    pub fn requests(&self) -> &Receiver<PostedBatch> {
        &self.queue
    }

    /// All up to the request with this [`resume`](crate::Batch::resume) is there for good, as of an
    /// epoch.
    pub fn committed(&self, offset: &Offset, epoch: Option<u64>) {
        Told(self.stream.clone()).committed(offset, epoch);
    }
}

impl Drop for HttpInlet {
    fn drop(&mut self) {
        self.stream.close();
        self.service.remove(&self.stream);
    }
}
