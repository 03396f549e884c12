//! Connections: their timeouts, and how they end.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use crate::serve_error::ServeError;
use crate::state::State;

/// Connections at once. Others wait in the system's queue.
const MAX_CONNECTIONS: usize = 4096;

/// Connections in the system's queue, if it lets that many wait: as many clients may come in a moment. Those for whom there is no
/// place come again after a second, or are served a few seconds late.
const MAX_QUEUED_CONNECTIONS: u32 = 4096;

/// How long to wait after the system had no connection to give, for want of file descriptors for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound address.
pub struct Listener {
    socket: TcpListener,
    host: String,
}

impl Listener {
    /// Listens on `host` and `port`; port 0 takes one that is free.
    ///
    /// # Errors
    /// If the address is taken or is none of this machine.
    pub async fn bind(host: &str, port: u16) -> Result<Self, ServeError> {
        match listen(host, port).await {
            Ok(socket) => Ok(Self { socket, host: host.to_owned() }),
            Err(source) => Err(ServeError::Listen { address: format!("{host}:{port}"), source }),
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The address as it was asked for.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

/// Listens on the first address of `host` that is free.
async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut problem = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    #[cfg(unix)] // elsewhere it would let two programs have the address
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(MAX_QUEUED_CONNECTIONS)
}

/// How long connections last once answers are given up: their clients are told meanwhile.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Serves `router` until `stop` is ready, and saves snapshots meanwhile. Then answers that have begun may end, within the time
/// that the options give them, or until `hurry` is ready; whoever comes meanwhile is told that the server stops. Returns when
/// all connections have ended, or shortly after what was left is given up.
pub(crate) async fn run(
    Listener { socket, .. }: Listener,
    router: Router,
    state: &Arc<State>,
    stop: impl Future<Output = ()>,
    hurry: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let snapshots = tokio::spawn(save_regularly(Arc::clone(state)));
    let serve = accept(&socket, &places, |stream| {
        graceful.watch(connection(stream, &router, state.options.client_timeout, Keep::Alive))
    });
    tokio::select! {
        () = stop => {}
        () = serve => {}
    }
    state.begin_stopping();
    tracing::info!("stopping: finishing what was begun");
    let timeout = state.options.shutdown_timeout;
    let refuse = accept(&socket, &places, |stream| {
        connection(stream, &router, state.options.client_timeout, Keep::Once)
    });
    let mut end = pin!(graceful.shutdown());
    let is_in_time = tokio::select! {
        () = &mut end => true,
        () = refuse => false,
        () = tokio::time::sleep(timeout) => false,
        () = hurry => false,
    };
    state.give_up();
    if !is_in_time && tokio::time::timeout(LAST_WORDS, end).await.is_err() {
        tracing::warn!("gave up on connections of which the clients have not read their answers");
    }
    snapshots.abort();
}

/// Takes connections for ever, and serves each by `serve` on a task of its own.
async fn accept<C>(listener: &TcpListener, places: &Arc<Semaphore>, serve: impl Fn(TcpStream) -> C)
where
    C: Future<Output = hyper::Result<()>> + Send + 'static,
{
    loop {
        let place = Arc::clone(places).acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot take a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = serve(stream);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection has failed: {error}");
            }
            drop(place);
        });
    }
}

/// How long a connection lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// As long as its client likes.
    Alive,
    /// For one request.
    Once,
}

type Connection = http1::Connection<TokioIo<Pin<Box<TimeoutStream<TcpStream>>>>, TowerToHyperService<Router>>;

/// Serves one connection. A head that does not come in time and a client that does not read end it; bodies have a timeout of
/// their own.
fn connection(stream: TcpStream, router: &Router, client_timeout: Duration, keep: Keep) -> Connection {
    let _ = stream.set_nodelay(true); // a token is worth a packet
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(client_timeout));
    http1::Builder::new()
        .keep_alive(keep == Keep::Alive)
        .timer(TokioTimer::new())
        .header_read_timeout(client_timeout)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router.clone()))
}

async fn save_regularly(state: Arc<State>) {
    let mut timer = tokio::time::interval(state.options.snapshot_interval);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    timer.tick().await; // the first one is at once
    loop {
        timer.tick().await;
        let state = Arc::clone(&state);
        let _ = tokio::task::spawn_blocking(move || state.save()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// Where the queue is full, connecting takes a second.
    #[tokio::test]
    async fn hundreds_of_clients_may_connect_before_one_is_taken() {
        let listener = Listener::bind("localhost", 0).await.unwrap();
        let address = listener.address().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(500)).unwrap();
        let clients: Vec<TcpStream> = (0..400).map(connect).collect();
        drop(clients);
    }
}
