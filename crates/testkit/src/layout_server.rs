//! Serves OCI layout directories as a read-only registry on loopback.
//!
//! In: which repository and tag each layout stands for. Out: an address that answers `GET` and `HEAD` for `/v2/`,
//! manifests and blobs (with `Range`), from a thread of its own until dropped. Blobs are read with blocking calls: the
//! thread serves tests and demos only. No uploads, authentication or faults: the scripted registry has those.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use kuz_image::digest::Digest;
use kuz_image::manifest::{Index, media_type};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How much of a blob is read at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// Manifests and index files over this are not served: something else lies there.
const DOCUMENT_BYTES: u64 = 4 << 20;

/// Serves a layout under every tag.
pub const ANY_TAG: &str = "*";

/// A layout and the name it is served under.
#[derive(Debug, Clone)]
pub struct Served {
    /// The repository, as in `library/python`.
    pub repository: String,
    /// The tag, or [`ANY_TAG`].
    pub tag: String,
    /// The layout directory; its first manifest, or the one whose `ref.name` is or ends in the tag, is served.
    pub layout: PathBuf,
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct LayoutServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LayoutServer {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When a layout has no readable index, or no port or thread is to be had.
    pub fn start(served: Vec<Served>) -> io::Result<Self> {
        for one in &served {
            find_tag(one)?;
        }
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let served = Arc::new(served);
        let thread = std::thread::Builder::new().name("layout-server".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = accept(listener, served) => {}
                    _ = stopped => {}
                }
            });
            // Open connections hold no state worth waiting for.
            runtime.shutdown_background();
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A `kuz.toml` that makes this the only source of Docker Hub's images.
    pub fn config(&self) -> String {
        format!("[registry.\"docker.io\"]\nmirrors = [\"{}\"]\norigin = false\n", self.address)
    }
}

impl Drop for LayoutServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by its own thread.
            drop(thread.join());
        }
    }
}

async fn accept(listener: std::net::TcpListener, served: Arc<Vec<Served>>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let served = Arc::clone(&served);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &served);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A client that went away is no concern of the server's.
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

fn answer(request: &Request<Incoming>, served: &[Served]) -> Answer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only");
    }
    let path = request.uri().path();
    if path == "/v2/" || path == "/v2" {
        return text(StatusCode::OK, "application/json", Bytes::from_static(b"{}"));
    }
    let range = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
    let found = match split(path) {
        Some((repository, "manifests", reference)) => manifest(served, repository, reference),
        Some((repository, "blobs", digest)) => blob(served, repository, digest, range),
        _ => Ok(None),
    };
    let mut answer = match found {
        Ok(Some(answer)) => answer,
        Ok(None) => refusal(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", path),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &error.to_string()),
    };
    if request.method() == Method::HEAD {
        let (parts, body) = answer.into_parts();
        drop(body);
        answer = Response::from_parts(parts, whole(Bytes::new()));
    }
    answer
}

/// `/v2/<repository>/<kind>/<reference>`; the repository may hold slashes.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let (rest, reference) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
    let (repository, kind) = rest.rsplit_once('/')?;
    Some((repository, kind, reference))
}

fn manifest(served: &[Served], repository: &str, reference: &str) -> io::Result<Option<Answer>> {
    let mut of_repository = served.iter().filter(|one| one.repository == repository);
    let (bytes, digest) = if let Ok(digest) = reference.parse::<Digest>() {
        let Some(path) = find_blob(served, repository, &digest) else { return Ok(None) };
        (read_document(&path)?, digest)
    } else {
        let Some(one) = of_repository.find(|one| one.tag == reference || one.tag == ANY_TAG) else { return Ok(None) };
        let digest = find_tag(one)?;
        (read_document(&blob_path(&one.layout, &digest))?, digest)
    };
    let value: serde_json::Value = serde_json::from_slice(&bytes)?;
    let kind = value.get("mediaType").and_then(serde_json::Value::as_str).unwrap_or(media_type::MANIFEST).to_owned();
    let mut answer = text(StatusCode::OK, &kind, Bytes::from(bytes));
    set(&mut answer, "docker-content-digest", &digest.to_string());
    Ok(Some(answer))
}

fn blob(served: &[Served], repository: &str, digest: &str, range: Option<&str>) -> io::Result<Option<Answer>> {
    let Ok(digest) = digest.parse::<Digest>() else { return Ok(None) };
    let Some(path) = find_blob(served, repository, &digest) else { return Ok(None) };
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let (status, first, end) = match range.and_then(|range| parse_range(range, length)) {
        None => (StatusCode::OK, 0, length),
        Some(Ok((first, end))) => (StatusCode::PARTIAL_CONTENT, first, end),
        Some(Err(())) => {
            let mut answer = refusal(StatusCode::RANGE_NOT_SATISFIABLE, "UNKNOWN", "range beyond the end");
            set(&mut answer, "content-range", &format!("bytes */{length}"));
            return Ok(Some(answer));
        }
    };
    file.seek(SeekFrom::Start(first))?;
    let mut answer = Response::new(FileBody { file, left: end - first }.boxed());
    *answer.status_mut() = status;
    set(&mut answer, "content-type", "application/octet-stream");
    set(&mut answer, "content-length", &(end - first).to_string());
    set(&mut answer, "accept-ranges", "bytes");
    set(&mut answer, "docker-content-digest", &digest.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut answer, "content-range", &format!("bytes {first}-{}/{length}", end - 1));
    }
    Ok(Some(answer))
}

/// `bytes=A-` and `bytes=A-B` as (first, end); other forms are served whole, as the standard allows.
fn parse_range(range: &str, length: u64) -> Option<Result<(u64, u64), ()>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let end = match last {
        "" => length,
        last => last.parse::<u64>().ok()?.saturating_add(1).min(length),
    };
    Some(if first < end { Ok((first, end)) } else { Err(()) })
}

fn find_tag(one: &Served) -> io::Result<Digest> {
    let index: Index = serde_json::from_slice(&read_document(&one.layout.join("index.json"))?)?;
    let names_tag = |name: &String| *name == one.tag || name.ends_with(&format!(":{}", one.tag));
    let named = index
        .manifests
        .iter()
        .find(|entry| entry.annotations.get("org.opencontainers.image.ref.name").is_some_and(names_tag));
    let entry = named.or(index.manifests.first());
    entry.map(|entry| entry.digest.clone()).ok_or_else(|| io::Error::other("the layout holds no manifest"))
}

fn find_blob(served: &[Served], repository: &str, digest: &Digest) -> Option<PathBuf> {
    let mut layouts = served.iter().filter(|one| one.repository == repository).map(|one| &one.layout);
    layouts.find_map(|layout| Some(blob_path(layout, digest)).filter(|path| path.is_file()))
}

fn blob_path(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs").join(digest.algorithm().name()).join(digest.hex())
}

fn read_document(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(DOCUMENT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > DOCUMENT_BYTES {
        return Err(io::Error::other("document over the limit"));
    }
    Ok(bytes)
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Answer {
    let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
    text(status, "application/json", Bytes::from(body.to_string()))
}

fn text(status: StatusCode, kind: &str, body: Bytes) -> Answer {
    let length = body.len().to_string();
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = status;
    set(&mut answer, "content-type", kind);
    set(&mut answer, "content-length", &length);
    answer
}

fn whole(bytes: Bytes) -> BoxBody<Bytes, io::Error> {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed()
}

fn set(answer: &mut Answer, name: &'static str, value: &str) {
    if let Ok(value) = header::HeaderValue::from_str(value) {
        answer.headers_mut().insert(header::HeaderName::from_static(name), value);
    }
}

/// A stretch of a file, read as it is asked for.
struct FileBody {
    file: File,
    left: u64,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = vec![0; usize::try_from(self.left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)];
        Poll::Ready(Some(self.file.read(&mut chunk).and_then(|count| {
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            chunk.truncate(count);
            self.left -= count as u64;
            Ok(Frame::data(Bytes::from(chunk)))
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;

    use super::*;

    /// A layout whose only manifest lists one layer with these bytes.
    fn layout(folder: &Path, layer: &[u8]) -> (Digest, Digest) {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
            digest
        };
        let layer_digest = put(layer);
        let config = put(b"{}");
        let manifest = put(format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"x","digest":"{config}","size":2}},"layers":[{{"mediaType":"y","digest":"{layer_digest}","size":{}}}]}}"#,
            media_type::MANIFEST,
            layer.len()
        )
        .as_bytes());
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{manifest}","size":1}}]}}"#,
            media_type::MANIFEST
        );
        std::fs::write(folder.join("index.json"), index).unwrap();
        (manifest, layer_digest)
    }

    fn ask(server: &LayoutServer, method: &str, path: &str, range: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let range = if range.is_empty() { String::new() } else { format!("Range: {range}\r\n") };
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{range}\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        (String::from_utf8(bytes[..end].to_vec()).unwrap(), bytes[end + 4..].to_vec())
    }

    #[test]
    fn serves_manifests_blobs_and_ranges() {
        let folder = tempfile::tempdir().unwrap();
        let layer: Vec<u8> = (0..600_000u32).map(|number| number.to_le_bytes()[0]).collect();
        let (manifest, layer_digest) = layout(folder.path(), &layer);
        let python =
            Served { repository: "library/python".into(), tag: "3.10".into(), layout: folder.path().to_owned() };
        let server = LayoutServer::start(vec![python]).unwrap();
        let blob = format!("/v2/library/python/blobs/{layer_digest}");
        let by_digest = format!("/v2/library/python/manifests/{manifest}");
        for (method, path, range, status, body) in [
            ("GET", "/v2/", "", "200", Some(b"{}".as_slice())),
            ("GET", blob.as_str(), "", "200", Some(&layer[..])),
            ("HEAD", blob.as_str(), "", "200", Some(&[])),
            ("GET", blob.as_str(), "bytes=10-19", "206", Some(&layer[10..20])),
            ("GET", blob.as_str(), "bytes=599990-", "206", Some(&layer[599_990..])),
            ("GET", blob.as_str(), "bytes=600000-", "416", None),
            ("GET", by_digest.as_str(), "", "200", None),
            ("GET", "/v2/library/python/manifests/3.10?ns=docker.io", "", "200", None),
            ("GET", "/v2/library/python/manifests/3.11", "", "404", None),
            ("GET", "/v2/other/manifests/3.10", "", "404", None),
            ("GET", "/v2/library/python/blobs/sha256:../../index.json", "", "404", None),
            ("PUT", "/v2/library/python/manifests/3.10", "", "405", None),
        ] {
            let (head, got) = ask(&server, method, path, range);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path} {range}: {head}");
            if let Some(body) = body {
                assert!(got == body, "{method} {path} {range}: {} bytes", got.len());
            }
        }
        let (head, body) = ask(&server, "GET", "/v2/library/python/manifests/3.10", "");
        assert!(head.contains(&format!("docker-content-digest: {manifest}")), "{head}");
        assert_eq!(Digest::of(&body), manifest);
    }

    #[test]
    fn a_folder_that_is_no_layout_is_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let served = Served { repository: "a".into(), tag: "b".into(), layout: folder.path().to_owned() };
        assert!(LayoutServer::start(vec![served]).is_err());
    }
}
