//! A docker-archive into a Docker daemon over its socket: `POST /images/load`.
//!
//! Only Unix sockets: a daemon elsewhere takes images from a registry.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::{Client, Response};
use serde_json::Value;

use crate::config::Timing;
use crate::error::{flatten, printable};
use crate::transport::next_chunk;
use crate::upload_body::UploadBody;

/// Where Docker listens if nobody says otherwise.
const SOCKET: &str = "/var/run/docker.sock";
/// One line of the daemon's answer.
const LINE_BYTES: usize = 1 << 20;

/// Why an image didn't get into the daemon.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// `DOCKER_HOST` names something else than a Unix socket.
    #[error("DOCKER_HOST `{}` is not supported (want unix:///path/to/docker.sock); push to a registry instead", host.escape_debug())]
    Host {
        /// The value.
        host: String,
    },
    /// Nobody answers.
    #[error("no Docker daemon answers at {}: {detail}", socket.display())]
    Absent {
        /// The socket.
        socket: PathBuf,
        /// Why.
        detail: String,
    },
    /// The daemon may not be asked.
    #[error("no permission to talk to the Docker daemon at {} (is the user in the group `docker`?)", socket.display())]
    Forbidden {
        /// The socket.
        socket: PathBuf,
    },
    /// The transfer broke off.
    #[error("load the image into the Docker daemon at {}: {detail}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Why.
        detail: String,
    },
    /// The daemon said no.
    #[error("the Docker daemon refused the image: {detail}")]
    Refused {
        /// What it said.
        detail: String,
    },
}

/// The socket that `$DOCKER_HOST` names; Docker's own place where it's unset.
pub fn socket(docker_host: Option<&str>) -> Result<PathBuf, DaemonError> {
    match docker_host.map(str::trim).filter(|host| !host.is_empty()) {
        None => Ok(PathBuf::from(SOCKET)),
        Some(host) => match host.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
            _ => Err(DaemonError::Host { host: host.to_owned() }),
        },
    }
}

/// Streams a docker-archive of `length` bytes into the daemon; gives what it says it loaded, one line each.
pub async fn load(
    socket: &Path,
    archive: Box<dyn Read + Send>,
    length: u64,
    timing: &Timing,
) -> Result<Vec<String>, DaemonError> {
    reachable(socket).await?;
    let broken = |detail: String| DaemonError::Broken { socket: socket.to_owned(), detail };
    // Any client of reqwest wants a provider, also one that never speaks TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .unix_socket(socket)
        .tls_danger_accept_invalid_certs(true)
        .build()
        .map_err(|error| broken(flatten(&error)))?;
    let body = UploadBody::new(archive, length, Arc::new(|_| {}));
    let pulse = Arc::clone(&body.pulse);
    let request = client
        .post("http://docker/images/load?quiet=1")
        .header(reqwest::header::CONTENT_TYPE, "application/x-tar")
        .header(reqwest::header::CONTENT_LENGTH, length)
        .body(body.into_body())
        .send();
    let response = tokio::select! {
        response = request => response.map_err(|error| broken(flatten(&error.without_url())))?,
        () = pulse.stopped(timing.stall, timing.commit) => return Err(broken("it stopped taking data".to_owned())),
    };
    let good = response.status().is_success();
    let status = response.status().as_u16();
    let loaded = answer(response, timing, &broken).await?;
    if good {
        Ok(loaded)
    } else {
        Err(DaemonError::Refused { detail: format!("status {status}: {}", loaded.join(" ")) })
    }
}

async fn reachable(socket: &Path) -> Result<(), DaemonError> {
    match tokio::net::UnixStream::connect(socket).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(DaemonError::Forbidden { socket: socket.to_owned() })
        }
        Err(error) => Err(DaemonError::Absent { socket: socket.to_owned(), detail: error.to_string() }),
    }
}

/// The answer is a sequence of JSON objects, one a line; a failure in the middle is among them.
async fn answer(
    mut response: Response,
    timing: &Timing,
    broken: &(dyn Fn(String) -> DaemonError + Sync),
) -> Result<Vec<String>, DaemonError> {
    let mut loaded = Vec::new();
    let mut pending = Vec::new();
    loop {
        let chunk = next_chunk(&mut response, timing.commit).await.map_err(|cause| broken(cause.to_string()))?;
        let ended = chunk.is_none();
        pending.extend_from_slice(&chunk.unwrap_or_default());
        if ended {
            pending.push(b'\n');
        }
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            loaded.extend(read_line(&line)?);
        }
        if pending.len() > LINE_BYTES {
            return Err(broken("its answer makes no sense".to_owned()));
        }
        if ended {
            return Ok(loaded);
        }
    }
}

fn read_line(line: &[u8]) -> Result<Option<String>, DaemonError> {
    let Ok(value) = serde_json::from_slice::<Value>(line) else { return Ok(None) };
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    if let Some(error) = text("error") {
        return Err(DaemonError::Refused { detail: printable(error, 500) });
    }
    let said = text("stream").or_else(|| text("message"));
    Ok(said.map(|said| printable(said, 500)).filter(|said| !said.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_unix_sockets_are_taken() {
        for (host, want) in [
            (None, Some("/var/run/docker.sock")),
            (Some(" "), Some("/var/run/docker.sock")),
            (Some("unix:///run/user/1000/docker.sock"), Some("/run/user/1000/docker.sock")),
            (Some("tcp://127.0.0.1:2375"), None),
            (Some("unix://relative"), None),
        ] {
            assert_eq!(socket(host).ok().as_deref(), want.map(Path::new), "{host:?}");
        }
    }

    /// A daemon for one connection after the probing one; gives what it was sent.
    fn daemon(listener: UnixListener, answer: &'static str) -> std::thread::JoinHandle<(String, Vec<u8>)> {
        std::thread::spawn(move || {
            drop(listener.accept().unwrap());
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).unwrap();
            }
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap()];
            reader.read_exact(&mut body).unwrap();
            let mut stream = stream;
            stream.write_all(answer.as_bytes()).unwrap();
            (head, body)
        })
    }

    #[tokio::test]
    async fn archives_are_loaded_and_refusals_told() {
        let ok = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"stream\":\"Loaded image: a:b\\n\"}\r\n";
        let bad = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"stream\":\"x\"}\n{\"errorDetail\":{},\"error\":\"no space\"}";
        let status = "HTTP/1.1 500 Oops\r\ncontent-length: 17\r\n\r\n{\"message\":\"oh\"}\n";
        for (answer, want) in [
            (ok, Ok(vec!["Loaded image: a:b".to_owned()])),
            (bad, Err("the Docker daemon refused the image: no space".to_owned())),
            (status, Err("the Docker daemon refused the image: status 500: oh".to_owned())),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("d.sock");
            let server = daemon(UnixListener::bind(&path).unwrap(), answer);
            let archive: &[u8] = b"tar bytes";
            let got = load(&path, Box::new(archive), 9, &Timing::default()).await;
            assert_eq!(got.map_err(|error| error.to_string()), want);
            let (head, body) = server.join().unwrap();
            assert!(head.starts_with("POST /images/load"), "{head}");
            assert_eq!(body, archive);
        }
    }

    #[tokio::test]
    async fn a_missing_daemon_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.sock");
        let error = load(&path, Box::new(&b""[..]), 0, &Timing::default()).await.unwrap_err().to_string();
        assert!(error.contains("no Docker daemon answers at") && error.contains("none.sock"), "{error}");
    }
}
