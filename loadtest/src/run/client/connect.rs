//! Connections to the target, with or without TLS.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::super::url::Url;
use crate::scenario::Protocol;

/// Knows how to reach the target.
pub(in crate::run) struct Connector {
    url: Url,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A connection, encrypted or not.
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connector {
    pub(in crate::run) fn new(
        url: Url,
        protocol: Protocol,
        ca_file: Option<&Path>,
    ) -> io::Result<Self> {
        let tls = if url.is_tls {
            let name = ServerName::try_from(url.host.clone())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            Some((tls(protocol, ca_file)?, name))
        } else {
            None
        };
        Ok(Self { url, tls })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) async fn connect(&self) -> io::Result<Socket> {
        let stream = TcpStream::connect(self.url.addresses.as_slice()).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Socket::Plain(stream),
            Some((tls, name)) => Socket::Tls(Box::new(tls.connect(name.clone(), stream).await?)),
        })
    }
}

fn tls(protocol: Protocol, ca_file: Option<&Path>) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    // Without a store of the system's there is still `ca_file`.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().unwrap_or_default());
    if let Some(path) = ca_file {
        let invalid = |error: &dyn std::fmt::Display| {
            let text = format!("ca_file: {}: {error}", path.display());
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| invalid(&error))? {
            let certificate = certificate.map_err(|error| invalid(&error))?;
            roots.add(certificate).map_err(|error| invalid(&error))?;
        }
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![match protocol {
        Protocol::Http1 => b"http/1.1".to_vec(),
        Protocol::H2 => b"h2".to_vec(),
    }];
    Ok(TlsConnector::from(Arc::new(config)))
}

// === impl Socket ===

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
