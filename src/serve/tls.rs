//! By which certificate does a server say who it is?

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Speaks TLS with the certificate chain and the key of two PEM files.
///
/// # Errors
/// What is wrong with them, in words.
pub(super) fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, String> {
    let unreadable =
        |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(cert).map_err(|error| unreadable(cert, &error))?;
    let chain: Vec<CertificateDer<'static>> = chain
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(cert, &error))?;
    if chain.is_empty() {
        return Err(format!("{}: there is no certificate in it", cert.display()));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| format!("{} and {}: {error}", cert.display(), key.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
