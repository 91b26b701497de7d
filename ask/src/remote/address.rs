//! Where is a server of models?
//!
//! ```text
//! http://localhost:8000/v1              the only model that it serves
//! https://host/v1#name-of-a-model       that model
//! http://localhost:11434                the path is /v1 where none is given
//! ```

use ureq::http::Uri;

use super::error::RemoteError;

/// The address of a server, as requests are sent to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Scheme, host and port.
    root: String,
    /// The path below which the endpoints stand, without a slash at its end.
    path: String,
    /// With its question mark; empty where there is none.
    query: String,
}

impl Address {
    /// The address of a spec, and the model that it names, if it does.
    ///
    /// # Errors
    /// [`RemoteError::Address`].
    pub fn parse(spec: &str) -> Result<(Self, Option<String>), RemoteError> {
        let wrong = |reason| RemoteError::Address { reason };
        let (url, model) = match spec.split_once('#') {
            Some((url, model)) => (url, Some(model)),
            None => (spec, None),
        };
        let uri: Uri = url
            .parse()
            .map_err(|_| wrong("it cannot be read as a URL"))?;
        let scheme = match uri.scheme_str() {
            Some("https") => "https",
            Some("http") => "http",
            _ => return Err(wrong("it begins with neither https:// nor http://")),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if uri.host().is_none_or(str::is_empty) {
            return Err(wrong("it names no host"));
        }
        if authority.contains('@') {
            return Err(wrong(
                "it holds a user or password; a key stands in a file or the environment",
            ));
        }
        let path = match uri.path().trim_end_matches('/') {
            "" => "/v1",
            path => path,
        };
        // What people copy is often the endpoint itself.
        let path = [
            "/chat/completions",
            "/completions",
            "/embeddings",
            "/models",
        ]
        .iter()
        .find_map(|end| path.strip_suffix(end))
        .unwrap_or(path);
        let address = Self {
            root: format!("{scheme}://{authority}"),
            path: path.to_owned(),
            query: uri
                .query()
                .map_or(String::new(), |query| format!("?{query}")),
        };
        let model = model.filter(|model| !model.is_empty());
        Ok((address, model.map(str::to_owned)))
    }

    /// The URL of an endpoint of the interface.
    pub(super) fn endpoint(&self, name: &str) -> String {
        let Self { root, path, query } = self;
        format!("{root}{path}/{name}{query}")
    }

    /// Scheme, host and port.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// The URL of what stands beside the interface.
    pub(super) fn beside(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }
}

impl std::fmt::Display for Address {
    /// Without the query, which may hold a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.root, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_people_write_it() {
        for (spec, shown, model) in [
            ("http://localhost:8000", "http://localhost:8000/v1", None),
            ("http://localhost:8000/", "http://localhost:8000/v1", None),
            ("http://h:1/v1/#a/b:c", "http://h:1/v1", Some("a/b:c")),
            ("https://h/v1/chat/completions#", "https://h/v1", None),
            ("https://h/v1/embeddings#e", "https://h/v1", Some("e")),
            ("https://h/api/openai", "https://h/api/openai", None),
        ] {
            let (address, named) = Address::parse(spec).expect(spec);
            assert_eq!(
                (address.to_string().as_str(), named.as_deref()),
                (shown, model)
            );
        }
        let (address, _) = Address::parse("https://h/v1?api-version=2&key=x").expect("a query");
        let models = address.endpoint("models");
        assert_eq!(models, "https://h/v1/models?api-version=2&key=x");
        assert_eq!(address.to_string(), "https://h/v1");
        assert_eq!(address.beside("props"), "https://h/props");
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        for (spec, reason) in [
            ("http://", "it cannot be read as a URL"),
            ("https://u:secret@h/v1", "it holds a user or password"),
            ("ftp://h", "it begins with neither"),
        ] {
            let error = Address::parse(spec).expect_err(spec).to_string();
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
