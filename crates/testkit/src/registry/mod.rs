//! A registry in this process, on a loopback port of its own, that can be told to misbehave.
//!
//! Blobs and manifests go in, requests are answered as the distribution specification says, and every request is
//! logged. [`Fault`]s make chosen requests fail in chosen ways. It keeps everything in memory, runs on a thread of
//! its own and stops when dropped. Deliberately no complete registry: no deletion, no referrers, no paging.

mod access;
mod body;
mod fault;
mod image;
mod routes;
mod state;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kuz_image::digest::Digest;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use access::{Access, Bearer};
pub use fault::{Action, Fault};
pub use image::{PutImage, Squeeze, TestImage};
pub use state::Logged;

use state::State;

/// A running registry.
#[derive(Debug)]
pub struct TestRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    ca_pem: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestRegistry {
    /// Starts a registry that speaks plain HTTP.
    pub fn start() -> io::Result<Self> {
        Self::launch(None, None)
    }

    /// Starts a registry that speaks TLS with a certificate of its own authority, see [`Self::ca_pem`].
    pub fn start_tls() -> io::Result<Self> {
        let identity = tls::Identity::generate()?;
        Self::launch(Some(identity.acceptor), Some(identity.ca_pem))
    }

    fn launch(acceptor: Option<tokio_rustls::TlsAcceptor>, ca_pem: Option<String>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let state = Arc::new(Mutex::new(State::new(format!("{scheme}://{address}"))));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("test-registry".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = serve(listener, acceptor, served) => {}
                    _ = stopped => {}
                }
            });
            // Connections that hang on purpose must not hold up the test.
            runtime.shutdown_background();
        })?;
        Ok(Self { address, state, ca_pem, stop: Some(stop), thread: Some(thread) })
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The certificate authority that signed this registry's certificate, as PEM; `None` for plain HTTP.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Who may do what. At the start: everybody everything.
    pub fn set_access(&self, access: Access) {
        self.state().access = access;
    }

    /// Adds a fault; the first one that matches a request and has turns left is used.
    pub fn fault(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Stores a blob.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        self.state().put_blob(repository, bytes.to_vec())
    }

    /// Stores a manifest or index under a tag (and its digest).
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> Digest {
        self.state().put_manifest(repository, tag, media_type, bytes.to_vec())
    }

    /// Stores the blobs and the manifest of a small image.
    pub fn put_image(&self, repository: &str, tag: &str, image: &TestImage) -> io::Result<PutImage> {
        image.put(&mut self.state(), repository, tag)
    }

    /// A stored blob.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        self.state().blob(repository, digest).map(|bytes| bytes.to_vec())
    }

    /// A stored manifest's media type and bytes, by tag or digest.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<(String, Vec<u8>)> {
        self.state().manifest(repository, reference).map(|found| (found.media_type.clone(), found.bytes.to_vec()))
    }

    /// Every request so far.
    pub fn log(&self) -> Vec<Logged> {
        self.state().log.clone()
    }

    /// Forgets the log.
    pub fn clear_log(&self) {
        self.state().log.clear();
    }

    /// Requests whose method is `method` and whose path contains `part`.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.state().log.iter().filter(|entry| entry.method == method && entry.path.contains(part)).count()
    }

    /// Bytes of response bodies sent for paths that contain `part`.
    pub fn bytes_sent(&self, part: &str) -> u64 {
        self.state().log.iter().filter(|entry| entry.path.contains(part)).map(Logged::bytes_sent).sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A test that panicked while holding the lock has already failed; the state is still whole.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: std::net::TcpListener, acceptor: Option<tokio_rustls::TlsAcceptor>, state: Arc<Mutex<State>>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let (state, acceptor) = (Arc::clone(&state), acceptor.clone());
        tokio::spawn(async move {
            match acceptor {
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        connection(TokioIo::new(stream), state).await;
                    }
                }
                None => connection(TokioIo::new(stream), state).await,
            }
        });
    }
}

async fn connection<S>(stream: S, state: Arc<Mutex<State>>)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let service = service_fn(move |request| routes::answer(Arc::clone(&state), request));
    // An error here is a client that went away, or a fault that was asked for.
    let _ = http1::Builder::new().serve_connection(stream, service).await;
}
