//! Requests to answers, by the distribution specification, with the faults applied.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use kuz_image::digest::Digest;

use super::body::{End, ScriptedBody};
use super::fault::Action;
use super::lock;
use super::state::{Logged, State};

/// An answer before it's sent.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    end: End,
    chunked: bool,
}

impl Answer {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), end: End::Done, chunked: false }
    }

    fn json(status: u16, body: String) -> Self {
        Self { body: Bytes::from(body), ..Self::new(status) }.header("content-type", "application/json")
    }

    fn error(status: u16) -> Self {
        let (code, message) = match status {
            401 => ("UNAUTHORIZED", "authentication required"),
            403 => ("DENIED", "requested access to the resource is denied"),
            404 => ("MANIFEST_UNKNOWN", "not known here"),
            429 => ("TOOMANYREQUESTS", "slow down"),
            _ => ("UNKNOWN", "scripted"),
        };
        Self::json(status, format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#))
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What a path asks for.
enum Target<'a> {
    Base,
    Token,
    Manifest(&'a str, &'a str),
    Blob(&'a str, &'a str),
    StartUpload(&'a str),
    Upload(&'a str, &'a str),
    Tags(&'a str),
    Unknown,
}

fn target(path: &str) -> Target<'_> {
    if path == "/token" {
        return Target::Token;
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return Target::Unknown };
    if rest.is_empty() {
        return Target::Base;
    }
    if let Some((repository, id)) = rest.rsplit_once("/blobs/uploads/") {
        return if id.is_empty() { Target::StartUpload(repository) } else { Target::Upload(repository, id) };
    }
    if let Some((repository, digest)) = rest.rsplit_once("/blobs/") {
        return Target::Blob(repository, digest);
    }
    if let Some((repository, reference)) = rest.rsplit_once("/manifests/") {
        return Target::Manifest(repository, reference);
    }
    rest.strip_suffix("/tags/list").map_or(Target::Unknown, Target::Tags)
}

/// The scope that a request needs.
fn scope(target: &Target<'_>, method: &str) -> String {
    let (Target::Manifest(repository, _)
    | Target::Blob(repository, _)
    | Target::StartUpload(repository)
    | Target::Upload(repository, _)
    | Target::Tags(repository)) = target
    else {
        return String::new();
    };
    let actions = if matches!(method, "GET" | "HEAD") { "pull" } else { "pull,push" };
    format!("repository:{repository}:{actions}")
}

/// Answers one request; an error closes the connection.
pub(super) async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<ScriptedBody>, io::Error> {
    let method = request.method().as_str().to_owned();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let headers: BTreeMap<String, String> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let (index, action, sent) = {
        let mut state = lock(&state);
        let entry = Logged::new(&method, &path, &query, headers.clone());
        let sent = entry.sent();
        state.log.push(entry);
        let action = state.take_fault(&method, &format!("{path}?{query}"));
        (state.log.len() - 1, action, sent)
    };
    match action {
        Some(Action::Close) => return Err(io::Error::other("closed on purpose")),
        Some(Action::Hang) => return std::future::pending().await,
        _ => {}
    }
    let keep = if let Some(Action::CutUpload(bytes)) = action { Some(bytes) } else { None };
    let body = read_body(request.into_body(), keep).await?;
    let call = Call { method, path, query, headers, body };
    let mut state = lock(&state);
    if keep.is_some() {
        if let Target::Upload(_, id) = target(&call.path) {
            state.uploads.entry(id.to_owned()).or_default().extend_from_slice(&call.body);
        }
        return Err(io::Error::other("cut on purpose"));
    }
    let answer = bend(&mut state, &call, action);
    if let Some(entry) = state.log.get_mut(index) {
        entry.status = answer.status;
        entry.body_bytes = call.body.len();
    }
    drop(state);
    finish(&call, answer, sent)
}

async fn read_body(mut body: Incoming, keep: Option<usize>) -> Result<Vec<u8>, io::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(io::Error::other)?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
        if let Some(keep) = keep
            && bytes.len() >= keep
        {
            bytes.truncate(keep);
            break;
        }
    }
    Ok(bytes)
}

struct Call {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Call {
    fn parameter(&self, name: &str) -> Option<String> {
        pairs(&self.query).into_iter().find_map(|(key, value)| (key == name).then_some(value))
    }

    fn authorization(&self) -> Option<&str> {
        self.headers.get("authorization").map(String::as_str)
    }
}

/// Applies the fault to the right answer.
fn bend(state: &mut State, call: &Call, action: Option<Action>) -> Answer {
    match &action {
        Some(Action::Status(status)) => return Answer::error(*status),
        Some(Action::RetryAfter(status, value)) => return Answer::error(*status).header("retry-after", value),
        Some(Action::Answer(status, headers, body)) => {
            let answer = Answer { body: Bytes::from(body.clone()), ..Answer::new(*status) };
            return headers.iter().fold(answer, |answer, (name, value)| answer.header(name, value));
        }
        Some(Action::Unauthorized) => {
            let challenge = state.challenge(&scope(&target(&call.path), &call.method));
            return Answer::error(401).header("www-authenticate", &challenge);
        }
        Some(Action::Html) => {
            let page = Bytes::from_static(b"<!DOCTYPE html><html><body>Sign in to the WiFi</body></html>");
            return Answer { body: page, ..Answer::new(200) }.header("content-type", "text/html");
        }
        Some(Action::Redirect(status, to)) => return Answer::new(*status).header("location", to),
        _ => {}
    }
    let ranged = !matches!(action, Some(Action::IgnoreRange));
    let mountable = !matches!(action, Some(Action::RefuseMount));
    let mut answer = right_answer(state, call, mountable);
    if ranged {
        answer = apply_range(call, answer);
    }
    match action {
        Some(Action::CutAfter(bytes)) => shorten(answer, bytes, End::Cut),
        Some(Action::StallAfter(bytes)) => shorten(answer, bytes, End::Stall),
        Some(Action::Corrupt) => {
            let mut body = answer.body.to_vec();
            if let Some(byte) = body.last_mut() {
                *byte ^= 1;
            }
            Answer { body: Bytes::from(body), ..answer }
        }
        Some(Action::Longer(bytes)) => {
            let mut body = answer.body.to_vec();
            body.resize(body.len() + bytes, b'x');
            Answer { body: Bytes::from(body), ..answer }
        }
        Some(Action::Shorter(bytes)) => {
            let length = answer.body.len().saturating_sub(bytes);
            Answer { body: answer.body.slice(..length), ..answer }
        }
        Some(Action::Chunked) => Answer { chunked: true, ..answer },
        Some(Action::WrongRange) if answer.status == 206 => answer.header("content-range", "bytes 1-2/3"),
        Some(Action::DigestHeader(value)) => {
            let mut answer = answer.header("docker-content-digest", &value);
            if value.is_empty() {
                answer.headers.retain(|(name, _)| name != "docker-content-digest");
            }
            answer
        }
        Some(Action::Location(to)) => answer.header("location", &to),
        _ => answer,
    }
}

fn shorten(answer: Answer, bytes: usize, end: End) -> Answer {
    let full = answer.body.len().to_string();
    let body = answer.body.slice(..bytes.min(answer.body.len()));
    Answer { body, end, ..answer }.header("content-length", &full)
}

fn apply_range(call: &Call, answer: Answer) -> Answer {
    let Some(range) = call.headers.get("range").and_then(|value| value.strip_prefix("bytes=")) else { return answer };
    let Some(start) = range.trim_end_matches('-').split('-').next().and_then(|text| text.parse::<usize>().ok()) else {
        return answer;
    };
    let total = answer.body.len();
    if answer.status != 200 {
        return answer;
    }
    if start >= total {
        return Answer::new(416).header("content-range", &format!("bytes */{total}"));
    }
    let body = answer.body.slice(start..);
    Answer { status: 206, body, ..answer }.header("content-range", &format!("bytes {start}-{}/{total}", total - 1))
}

/// What a well-behaved registry answers.
fn right_answer(state: &mut State, call: &Call, mountable: bool) -> Answer {
    let target = target(&call.path);
    if let Target::Token = target {
        let mut form = pairs(&call.query);
        form.extend(pairs(&String::from_utf8_lossy(&call.body)));
        let (status, body) = state.issue(call.authorization(), &form);
        return Answer::json(status, body);
    }
    if let Err(challenge) = state.admit(call.authorization(), &scope(&target, &call.method)) {
        return Answer::error(401).header("www-authenticate", &challenge);
    }
    match (call.method.as_str(), target) {
        ("GET", Target::Base) => Answer::json(200, "{}".to_owned()),
        ("GET" | "HEAD", Target::Manifest(repository, reference)) => match state.manifest(repository, reference) {
            Some(found) => Answer { body: found.bytes.clone(), ..Answer::new(200) }
                .header("content-type", &found.media_type)
                .header("docker-content-digest", &found.digest.to_string()),
            None => Answer::error(404),
        },
        ("PUT", Target::Manifest(repository, reference)) => put_manifest(state, call, repository, reference),
        ("GET" | "HEAD", Target::Blob(repository, digest)) => {
            match digest.parse().ok().and_then(|digest| state.blob(repository, &digest)) {
                Some(bytes) => Answer { body: bytes, ..Answer::new(200) }
                    .header("content-type", "application/octet-stream")
                    .header("docker-content-digest", digest),
                None => Answer::error(404),
            }
        }
        ("POST", Target::StartUpload(repository)) => start_upload(state, call, repository, mountable),
        ("GET" | "PATCH" | "PUT" | "DELETE", Target::Upload(repository, id)) => upload(state, call, repository, id),
        ("GET", Target::Tags(repository)) => {
            let tags = serde_json::json!({"name": repository, "tags": state.tags(repository)});
            Answer::json(200, tags.to_string())
        }
        _ => Answer::error(404),
    }
}

fn put_manifest(state: &mut State, call: &Call, repository: &str, reference: &str) -> Answer {
    let media_type = call.headers.get("content-type").cloned().unwrap_or_default();
    let document: serde_json::Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let config = document.get("config").into_iter();
    let layers = document.get("layers").and_then(serde_json::Value::as_array).into_iter().flatten();
    for descriptor in config.chain(layers) {
        let digest = descriptor.get("digest").and_then(serde_json::Value::as_str).and_then(|text| text.parse().ok());
        if digest.and_then(|digest: Digest| state.blob(repository, &digest)).is_none() {
            let body = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
            return Answer::json(400, body.to_owned());
        }
    }
    if reference.contains(':') && Digest::of(&call.body).to_string() != reference {
        return Answer::error(400);
    }
    let digest = state.put_manifest(repository, reference, &media_type, call.body.clone());
    Answer::new(201)
        .header("location", &format!("/v2/{repository}/manifests/{digest}"))
        .header("docker-content-digest", &digest.to_string())
}

fn start_upload(state: &mut State, call: &Call, repository: &str, mountable: bool) -> Answer {
    if let (Some(digest), Some(from), true) = (call.parameter("mount"), call.parameter("from"), mountable) {
        let readable = state.admit(call.authorization(), &format!("repository:{from}:pull")).is_ok();
        let found = digest.parse().ok().and_then(|digest: Digest| Some((state.blob(&from, &digest)?, digest)));
        if let (Some((bytes, digest)), true) = (found, readable) {
            state.link_blob(repository, digest.clone(), bytes);
            return Answer::new(201)
                .header("location", &format!("/v2/{repository}/blobs/{digest}"))
                .header("docker-content-digest", &digest.to_string());
        }
    }
    let id = format!("upload-{}", state.next());
    state.uploads.insert(id.clone(), Vec::new());
    Answer::new(202).header("location", &format!("/v2/{repository}/blobs/uploads/{id}?_state=abc%3D"))
}

fn upload(state: &mut State, call: &Call, repository: &str, id: &str) -> Answer {
    let Some(held) = state.uploads.get_mut(id) else { return Answer::error(404) };
    match call.method.as_str() {
        "GET" => progress(204, repository, id, held.len()),
        "DELETE" => {
            state.uploads.remove(id);
            Answer::new(204)
        }
        "PATCH" => {
            let start = call.headers.get("content-range").and_then(|range| range.split('-').next()?.parse().ok());
            if start.is_some_and(|start: usize| start != held.len()) {
                return progress(416, repository, id, held.len());
            }
            held.extend_from_slice(&call.body);
            progress(202, repository, id, held.len())
        }
        _ => {
            let mut bytes = held.clone();
            bytes.extend_from_slice(&call.body);
            let digest = Digest::of(&bytes);
            if call.parameter("digest") != Some(digest.to_string()) {
                let body = r#"{"errors":[{"code":"DIGEST_INVALID","message":"digest did not match content"}]}"#;
                return Answer::json(400, body.to_owned());
            }
            state.uploads.remove(id);
            state.link_blob(repository, digest.clone(), Bytes::from(bytes));
            Answer::new(201)
                .header("location", &format!("/v2/{repository}/blobs/{digest}"))
                .header("docker-content-digest", &digest.to_string())
        }
    }
}

fn progress(status: u16, repository: &str, id: &str, held: usize) -> Answer {
    let answer = Answer::new(status).header("location", &format!("/v2/{repository}/blobs/uploads/{id}?_state=abc%3D"));
    if held == 0 { answer } else { answer.header("range", &format!("0-{}", held - 1)) }
}

fn finish(
    call: &Call,
    answer: Answer,
    sent: Arc<std::sync::atomic::AtomicU64>,
) -> Result<Response<ScriptedBody>, io::Error> {
    let mut builder = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    let head = call.method == "HEAD";
    if head && !answer.headers.iter().any(|(name, _)| name == "content-length") {
        builder = builder.header("content-length", answer.body.len());
    }
    let bytes = if head { Bytes::new() } else { answer.body };
    let mut body = ScriptedBody::new(&bytes, answer.end, sent);
    if answer.chunked {
        body = body.without_length();
    }
    builder.body(body).map_err(io::Error::other)
}

/// The pairs of a query or a form, decoded.
fn pairs(text: &str) -> Vec<(String, String)> {
    let split = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    };
    text.split('&').filter(|pair| !pair.is_empty()).map(split).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                let hex = std::str::from_utf8(&digits).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                bytes.push(hex.unwrap_or(b'?'));
                rest = after;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let want = vec![("a".to_owned(), "sha256:1".to_owned()), ("b".to_owned(), "x y".to_owned())];
        assert_eq!(pairs("a=sha256%3A1&b=x+y"), want);
    }
}
