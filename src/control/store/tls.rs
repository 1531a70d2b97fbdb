//! TLS to PostgreSQL: what `sslmode` and `sslrootcert` of the address say.

use std::error::Error;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pingora_rustls::{
    CertificateDer, ClientConfig, ClientTlsStream, CryptoProvider, DigitallySignedStruct,
    HandshakeSignatureValid, RootCertStore, RusTlsError, ServerCertVerified, ServerCertVerifier,
    ServerName, SignatureScheme, TlsConnector, UnixTime, load_ca_file_into_store,
    load_platform_certs_incl_env_into_store,
};
use postgres::config::SslMode as Wanted;
use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::sql::StoreError;
use crate::config::url::{PostgresUrl, SslMode};

/// Makes connections secure.
#[derive(Clone)]
pub(super) struct MakeTls(Arc<ClientConfig>);

/// Makes one secure, to the server of this name.
pub(super) struct ConnectTls {
    config: Arc<ClientConfig>,
    /// `None` for a socket in a folder, which has no name and speaks no TLS.
    name: Option<ServerName<'static>>,
}

/// A connection that is secure.
pub(super) struct Secured<S>(ClientTlsStream<S>);

/// Connects as the address says.
pub(super) fn connect(
    url: &PostgresUrl,
    config: &postgres::Config,
) -> Result<postgres::Client, StoreError> {
    let mut config = config.clone();
    config.ssl_mode(match url.mode {
        SslMode::Disable => Wanted::Disable,
        SslMode::Prefer => Wanted::Prefer,
        SslMode::Require | SslMode::VerifyFull => Wanted::Require,
    });
    let connected = match url.mode {
        SslMode::Disable => config.connect(postgres::NoTls),
        _ => config.connect(MakeTls::new(url)?),
    };
    connected.map_err(|error| super::sql::unavailable(&error))
}

impl MakeTls {
    fn new(url: &PostgresUrl) -> Result<Self, StoreError> {
        pingora_rustls::install_default_crypto_provider();
        let builder = ClientConfig::builder();
        let config = match url.mode {
            SslMode::VerifyFull => builder.with_root_certificates(roots(url.root.as_deref())?),
            // As the mode says: nobody can read along, and anybody can be the server.
            SslMode::Disable | SslMode::Prefer | SslMode::Require => {
                let verifier = Unverified(Arc::clone(provider()?));
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        Ok(Self(Arc::new(config.with_no_client_auth())))
    }
}

fn failed(reason: &str) -> StoreError {
    StoreError::Unavailable(format!("TLS: {reason}"))
}

fn provider() -> Result<&'static Arc<CryptoProvider>, StoreError> {
    CryptoProvider::get_default().ok_or_else(|| failed("there is no cryptography"))
}

/// The authorities of `sslrootcert`, else those of the system.
fn roots(file: Option<&Path>) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    let loaded = match file {
        Some(file) => load_ca_file_into_store(file.to_string_lossy().as_ref(), &mut roots),
        None => load_platform_certs_incl_env_into_store(&mut roots),
    };
    loaded.map_err(|_error| failed("the certificates of `sslrootcert` cannot be read"))?;
    if roots.is_empty() {
        return Err(failed("there is no certificate of an authority"));
    }
    Ok(roots)
}

impl<S> MakeTlsConnect<S> for MakeTls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Secured<S>;
    type TlsConnect = ConnectTls;
    type Error = Box<dyn Error + Send + Sync>;

    fn make_tls_connect(&mut self, host: &str) -> Result<ConnectTls, Self::Error> {
        let name = ServerName::try_from(host.to_owned()).ok();
        Ok(ConnectTls { config: Arc::clone(&self.0), name })
    }
}

impl<S> TlsConnect<S> for ConnectTls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Secured<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Secured<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let Self { config, name } = self;
        Box::pin(async move {
            let name = name.ok_or_else(|| io::Error::other("the server has no name"))?;
            Ok(Secured(TlsConnector::from(config).connect(name, stream).await?))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Secured<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// Takes any certificate, of whose key the server has proof.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, RusTlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RusTlsError> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RusTlsError> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
