//! One question to a service over HTTP, on a socket of its own network: a target in, a status out.
//!
//! A single GET without credentials, redirects or reuse of the connection. The answer's first line is kept for people; how
//! much of it is read is limited.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::sign::Target;

/// So much of an answer is read: its first line is shown where it says that something is wrong.
const BODY_BYTES: usize = 4096;
/// How long the rest of an answer may take whose status is known.
const BODY_TIME: Duration = Duration::from_secs(1);
/// A line of an answer is cut here.
const LINE_CHARS: usize = 200;
/// What a service may send of headers: more than any sends to a health check.
const HEADER_BYTES: usize = 64 << 10;

/// What a service answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The first line of the body.
    pub(super) line: String,
}

impl Answer {
    /// 2xx, or 3xx: somebody is there and knows the way.
    pub(super) fn is_good(&self) -> bool {
        self.status.is_success() || self.status.is_redirection()
    }
}

/// Asks.
pub(super) async fn get(stream: TcpStream, target: &Target) -> Result<Answer, hyper::Error> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEADER_BYTES).handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Empty::<Bytes>::new());
    if let Ok(path) = target.path.parse() {
        *request.uri_mut() = path;
    }
    let agent = concat!("kuz/", env!("CARGO_PKG_VERSION"), " (smoke run)");
    let headers = [
        (header::HOST, target.authority.as_str()),
        (header::USER_AGENT, agent),
        (header::ACCEPT, "*/*"),
        (header::CONNECTION, "close"),
    ];
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            request.headers_mut().insert(name, value);
        }
    }
    let asked = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let line = tokio::time::timeout(BODY_TIME, first_line(response)).await.unwrap_or_default();
        Ok(Answer { status, line })
    };
    // The connection is closed with this function, so that the service has nobody to wait for when it is to end.
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        answer = &mut asked => return answer,
        // What has been read is still to be had.
        _ = connection => {}
    }
    asked.await
}

async fn first_line(response: Response<hyper::body::Incoming>) -> String {
    let mut body = response.into_body();
    let mut bytes: Vec<u8> = Vec::new();
    while bytes.len() < BODY_BYTES && !bytes.contains(&b'\n') {
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data.get(..data.len().min(BODY_BYTES)).unwrap_or_default());
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.lines().next().unwrap_or_default().trim().chars().take(LINE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    use super::*;

    /// What is asked, and what comes of an answer in bytes.
    fn ask(answer: &'static [u8]) -> (String, Option<(u16, String, bool)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Target {
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            port,
            authority: format!("localhost:{port}"),
            path: "/a?b".to_owned(),
        };
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut asked, mut byte) = (Vec::new(), [0]);
            while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                asked.push(byte[0]);
            }
            stream.write_all(answer).unwrap();
            String::from_utf8(asked).unwrap()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(async {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            get(stream, &target).await
        });
        let answer = answer.ok().map(|answer| (answer.status.as_u16(), answer.line.clone(), answer.is_good()));
        (server.join().unwrap(), answer)
    }

    #[test]
    fn a_status_is_what_decides() {
        for (answer, want) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok\nsecond"[..], Some((200, "ok", true))),
            (b"HTTP/1.0 204 No Content\r\n\r\n", Some((204, "", true))),
            (b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n", Some((302, "", true))),
            (b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone", Some((404, "gone", false))),
            (
                b"HTTP/1.1 503 x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\n",
                Some((503, "{\"a\":1}", false)),
            ),
            // A body that breaks off is no reason to doubt the status.
            (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart", Some((200, "part", true))),
            (b"SSH-2.0-OpenSSH\r\n", None),
            (b"", None),
        ] {
            let (asked, got) = ask(answer);
            assert_eq!(got, want.map(|(status, line, good)| (status, line.to_owned(), good)));
            assert!(asked.starts_with("GET /a?b HTTP/1.1\r\nhost: localhost:"), "{asked}");
            assert!(asked.contains("connection: close\r\n"), "{asked}");
        }
    }
}
