//! Sockets and TLS.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora_core::listeners::ListenerConfig;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::Fds;
use pingora_core::services::listening::Service;
use pingora_rustls::sign::CertifiedKey;
use pingora_rustls::{
    ClientHello, CryptoProvider, ResolvesServerCert, install_default_crypto_provider,
    load_certs_and_key_files,
};
use tokio::net::TcpSocket;

use crate::app::StartError;
use crate::config::server::{ServerConfig, TlsConfig};
use crate::proxy::front::Front;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: u32 = 4_096;
/// Descriptors that are not connections: stores, logs, listeners.
const DESCRIPTORS_RESERVED: usize = 64;

/// Where the gateway can be reached.
#[derive(Debug, Clone)]
pub struct Listening {
    pub data: Vec<SocketAddr>,
    pub tls: Vec<SocketAddr>,
    pub admin: SocketAddr,
}

/// Bound sockets, not yet served.
pub(super) struct Sockets {
    data: Vec<(SocketAddr, TcpListener)>,
    tls: Vec<(SocketAddr, TcpListener)>,
    admin: TcpListener,
    admin_address: SocketAddr,
}

/// The certificate in use; a reload changes it for the next handshake.
#[derive(Debug)]
pub(super) struct Certificate(ArcSwap<CertifiedKey>);

/// Binds every socket of the configuration. Needs a runtime around it.
pub(super) fn bind(
    config: &ServerConfig,
) -> Result<(Sockets, Option<Arc<Certificate>>), StartError> {
    let all = |addresses: &[SocketAddr]| {
        addresses.iter().map(|address| bind_one(*address)).collect::<Result<Vec<_>, _>>()
    };
    let tls = config.data.tls.as_ref();
    let certificate = tls.map(Certificate::load).transpose()?.map(Arc::new);
    let (admin_address, admin) = bind_one(config.admin.listen)?;
    let sockets = Sockets {
        data: all(&config.data.listen)?,
        tls: tls.map(|tls| all(&tls.listen)).transpose()?.unwrap_or_default(),
        admin,
        admin_address,
    };
    Ok((sockets, certificate))
}

fn bind_one(address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?.into_std()?;
        Ok((listener.local_addr()?, listener))
    };
    bound().map_err(|error| StartError::Listen { address, error })
}

impl Sockets {
    pub(super) fn addresses(&self) -> Listening {
        let of = |sockets: &[(SocketAddr, TcpListener)]| {
            sockets.iter().map(|(address, _)| *address).collect()
        };
        Listening { data: of(&self.data), tls: of(&self.tls), admin: self.admin_address }
    }

    /// Hands the sockets over the way a hot upgrade does, by address.
    pub(super) fn into_service(
        self,
        front: Front,
        certificate: Option<&Arc<Certificate>>,
    ) -> (Service<Front>, Fds, TcpListener) {
        let mut service = Service::new("data plane".to_owned(), front);
        let mut fds = Fds::new();
        // What is read and written has buffers of its own, which last no longer than a request.
        let buffers = L4BufferSettings::unbuffered;
        for (address, socket) in self.data {
            service.add_listener(ListenerConfig::tcp(address.to_string()).l4_buffer(buffers()));
            fds.add(address.to_string(), socket.into_raw_fd());
        }
        for (address, socket) in self.tls {
            let Some(certificate) = certificate else { continue };
            let listener = ListenerConfig::tcp(address.to_string())
                .tls(certificate.settings())
                .l4_buffer(buffers());
            service.add_listener(listener);
            fds.add(address.to_string(), socket.into_raw_fd());
        }
        (service, fds, self.admin)
    }
}

impl Certificate {
    fn load(tls: &TlsConfig) -> Result<Self, StartError> {
        install_default_crypto_provider();
        Ok(Self(ArcSwap::from_pointee(read(&tls.cert, &tls.key)?)))
    }

    /// Reads the files anew.
    pub(super) fn reload(&self, tls: &TlsConfig) -> Result<(), StartError> {
        self.0.store(Arc::new(read(&tls.cert, &tls.key)?));
        Ok(())
    }

    fn settings(self: &Arc<Self>) -> TlsSettings {
        // The paths are not read: the resolver has the certificate.
        let mut settings =
            TlsSettings::intermediate("", "").expect("settings without files cannot fail");
        settings.set_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        settings.enable_h2();
        settings
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn read(cert: &Path, key: &Path) -> Result<CertifiedKey, StartError> {
    let refused =
        |reason: &str| StartError::Certificate { path: cert.to_owned(), reason: reason.to_owned() };
    let (cert_path, key_path) = (cert.to_string_lossy(), key.to_string_lossy());
    let (certs, key) = load_certs_and_key_files(&cert_path, &key_path)
        .map_err(|error| refused(&error.to_string()))?
        .ok_or_else(|| refused("the files hold no certificate, or no key"))?;
    let provider = CryptoProvider::get_default().ok_or_else(|| refused("no TLS provider"))?;
    let certified = CertifiedKey::from_der(certs, key, provider)
        .map_err(|error| refused(&error.to_string()))?;
    certified.keys_match().map_err(|error| refused(&error.to_string()))?;
    Ok(certified)
}

/// `configured`, but no more than the process's descriptors can carry: a request may need two.
pub(super) fn connections_max(configured: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let descriptors = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    let Some(descriptors) = descriptors else { return configured };
    let possible = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / 2;
    if possible < configured {
        tracing::warn!(
            configured,
            possible,
            "the limit of open files allows fewer connections than `data.max_connections`"
        );
    }
    configured.min(possible.max(1))
}
