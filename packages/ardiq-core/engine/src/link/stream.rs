//! Opens the byte stream to a server: TCP, TLS over TCP, or a Unix socket.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_ok;
use redis::ConnectionAddr;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::tls::Trust;

/// The operations that every kind of stream supports.
pub trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Duplex for S {}

/// An open stream of any kind.
pub type Stream = Pin<Box<dyn Duplex>>;

/// After this much silence, the system probes whether the other side is alive. The probes also keep
/// the connection in the address translation tables on the way.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The interval between probes, and how many may go unanswered.
const KEEPALIVE_AGAIN: (Duration, u32) = (Duration::from_secs(5), 3);

/// The connection breaks if sent bytes are not acknowledged for this long.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// The most unsent bytes that the system accepts. More would only hide the progress of a transfer.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// Open a stream to `address`, each step within `limit`.
pub async fn open(address: &ConnectionAddr, trust: &Trust, limit: Duration) -> io::Result<Stream> {
    match address {
        ConnectionAddr::Tcp(host, port) => Ok(Box::pin(step(limit, tcp(host, *port)).await?)),
        ConnectionAddr::TcpTls { host, port, .. } => {
            let stream = step(limit, tcp(host, *port)).await?;
            let config = trust.config().map_err(io::Error::other)?;
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let greeting = TlsConnector::from(Arc::new(config)).connect(name, stream);
            Ok(Box::pin(step(limit, greeting).await?))
        }
        ConnectionAddr::Unix(path) => Ok(Box::pin(step(limit, UnixStream::connect::<&Path>(path)).await?)),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Run one step of making a connection.
pub async fn step<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    tokio::time::timeout(limit, work).await.map_err(late)?
}

/// All addresses of a host are tried at the same time.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let attempts: Vec<_> =
        lookup_host((host, port)).await?.map(|address| Box::pin(TcpStream::connect(address))).collect();
    if attempts.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the host name has no address"));
    }
    let (stream, _) = select_ok(attempts).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let (again, times) = KEEPALIVE_AGAIN;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(again).with_retries(times))?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
    }
    Ok(stream)
}
