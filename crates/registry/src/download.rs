//! A file from any web address to a sink: what `ADD https://…` fetches.
//!
//! With the transport of the registries: their proxies, certificate authorities, deadlines and redirects (never from
//! https to http, never with the address's name and password). An answer is always taken from the start, and its bytes
//! as they are. Digests and what the bytes mean are the caller's.

use base64::Engine as _;
use reqwest::header::{ACCEPT_ENCODING, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{Method, Response, Url};

use crate::blob::BlobSink;
use crate::client::{Client, Inner};
use crate::config::Endpoint;
use crate::error::{Action, Attempts, Cause, RegistryError};
use crate::host::Host;
use crate::retry::{Patience, retry_after};
use crate::secret::Secret;
use crate::transport::{Call, next_chunk};

/// Header values longer than this are not kept: they'd only be sent back.
const VALIDATOR_BYTES: usize = 1024;

/// What the last answer was recognised by: the server is asked whether it still holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`
    pub etag: Option<String>,
    /// `Last-Modified`
    pub last_modified: Option<String>,
}

/// What an address answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Download {
    /// Still what the validators stand for; nothing was written.
    Unchanged,
    /// All of it is in the sink.
    Content {
        /// To be asked with the next time.
        validators: Validators,
        /// `Last-Modified` in seconds since 1970.
        modified: Option<i64>,
    },
}

/// How to ask for a file.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'w> {
    /// What the last answer was recognised by.
    pub known: Option<&'w Validators>,
    /// The value of the header `Authorization`, in the place of what the address says. It goes to the address's own
    /// scheme, host and port, and not along with a redirect to others.
    pub authorization: Option<&'w Secret>,
    /// At most so many bytes.
    pub limit: u64,
}

/// A web address, without its name and password.
struct Address {
    url: Url,
    authorization: Option<Secret>,
}

impl Client {
    /// Fetches what is at an `http` or `https` address. With validators that hold an answer may be
    /// [`Download::Unchanged`]. After an error the sink holds nothing that can be used.
    pub async fn download(
        &self,
        address: &str,
        wanted: Wanted<'_>,
        sink: &mut dyn BlobSink,
    ) -> Result<Download, RegistryError> {
        let attempts = Attempts::new(Action::Download, shown(address));
        let mut address = match Address::read(address) {
            Ok(address) => address,
            Err(cause) => return Err(attempts.fail_early("its address", cause)),
        };
        address.authorization = wanted.authorization.cloned().or(address.authorization);
        let host = Host::of_url(&address.url).map(|host| host.to_string()).unwrap_or_default();
        let endpoint = match self.inner.config.origin(&host) {
            Ok(endpoint) => endpoint,
            Err(error) => return Err(attempts.fail_early(&host, Cause::Host(error))),
        };
        let fetched = self.inner.download_at(&endpoint, &address, wanted.known, wanted.limit, sink).await;
        fetched.map_err(|cause| attempts.fail_early(&host, cause))
    }
}

impl Inner {
    async fn download_at(
        &self,
        endpoint: &Endpoint,
        address: &Address,
        known: Option<&Validators>,
        limit: u64,
        sink: &mut dyn BlobSink,
    ) -> Result<Download, Cause> {
        let mut patience = Patience::new(&self.config.timing, false);
        loop {
            match self.download_once(endpoint, address, known, limit, sink).await {
                Ok(download) => return Ok(download),
                Err(cause) => patience.wait(cause).await?,
            }
            sink.restart().map_err(local)?;
        }
    }

    async fn download_once(
        &self,
        endpoint: &Endpoint,
        address: &Address,
        known: Option<&Validators>,
        limit: u64,
        sink: &mut dyn BlobSink,
    ) -> Result<Download, Cause> {
        let call = Call::new(endpoint, Method::GET, address.url.clone()).header(ACCEPT_ENCODING, "identity");
        let call = conditional(call, known);
        let mut response = self.transport.exchange(&call, address.authorization.as_ref()).await?.response;
        match response.status().as_u16() {
            200 => {}
            304 if known.is_some() => return Ok(Download::Unchanged),
            _ => return Err(unwelcome(&response)),
        }
        let too_large = || Cause::Limit { what: "the file", limit: usize::try_from(limit).unwrap_or(usize::MAX) };
        let length = response.content_length();
        if length.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut taken = 0;
        while let Some(chunk) = next_chunk(&mut response, self.config.timing.stall).await? {
            taken += chunk.len() as u64;
            if taken > limit {
                return Err(too_large());
            }
            sink.write(&chunk).map_err(local)?;
        }
        if length.is_some_and(|length| length != taken) {
            let detail = format!("{taken} of {} bytes came", length.unwrap_or_default());
            return Err(Cause::Broken { what: "in the middle of the file".to_owned(), detail });
        }
        let headers = response.headers();
        let modified = headers.get(LAST_MODIFIED).and_then(|value| seconds(value.to_str().ok()?));
        Ok(Download::Content {
            validators: Validators { etag: text(headers, &ETAG), last_modified: text(headers, &LAST_MODIFIED) },
            modified,
        })
    }
}

/// Where there's an `ETag`, it alone is meant: dates are coarse.
fn conditional<'a>(call: Call<'a>, known: Option<&Validators>) -> Call<'a> {
    match known {
        Some(Validators { etag: Some(etag), .. }) => call.header(IF_NONE_MATCH, etag),
        Some(Validators { etag: None, last_modified: Some(date) }) => call.header(IF_MODIFIED_SINCE, date),
        _ => call,
    }
}

fn unwelcome(response: &Response) -> Cause {
    let status = response.status().as_u16();
    match status {
        404 | 410 => Cause::NotFound { status, detail: String::new() },
        _ => Cause::Status { status, detail: String::new(), retry_after: retry_after(response.headers()) },
    }
}

fn local(error: std::io::Error) -> Cause {
    Cause::Local { what: "write the file".to_owned(), error }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (!value.is_empty() && value.len() <= VALIDATOR_BYTES).then(|| value.to_owned())
}

fn seconds(date: &str) -> Option<i64> {
    let time = httpdate::parse_http_date(date).ok()?;
    time.duration_since(std::time::UNIX_EPOCH).ok().and_then(|time| i64::try_from(time.as_secs()).ok())
}

impl Address {
    fn read(text: &str) -> Result<Self, Cause> {
        let bad = |detail: &str| Cause::Protocol { detail: detail.to_owned() };
        let mut url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || Host::of_url(&url).is_none() {
            return Err(bad("only http and https addresses of a host can be fetched"));
        }
        url.set_fragment(None);
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (name, password) => {
                let pair = [decode(name), b":".to_vec(), decode(password.unwrap_or_default())].concat();
                let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
                Some(Secret::new(format!("Basic {encoded}")))
            }
        };
        // Only addresses that can't be a base refuse, and those are refused above.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(Self { url, authorization })
    }
}

/// The bytes that a part of an address stands for: `%20` is a blank.
pub fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, more)) = rest.split_first() {
        let hex = more.get(..2).and_then(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
        if let Some(decoded) = hex.filter(|_| byte == b'%') {
            bytes.push(decoded);
            rest = more.get(2..).unwrap_or_default();
        } else {
            bytes.push(byte);
            rest = more;
        }
    }
    bytes
}

/// An address for messages and keys: without name, password, and the values behind a `?`.
pub fn shown(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else { return "an address that cannot be read".to_owned() };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    let asks = url.query().is_some();
    url.set_query(None);
    if asks { format!("{url}?…") } else { url.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_secrets() {
        for (text, want, url, authorization) in [
            ("https://h/a", "https://h/a", "https://h/a", None),
            ("http://h:81/a%20b#x", "http://h:81/a%20b", "http://h:81/a%20b", None),
            ("https://h/a?token=s", "https://h/a?…", "https://h/a?token=s", None),
            ("https://me:p%40ss@h/a", "https://h/a", "https://h/a", Some("Basic bWU6cEBzcw==")),
        ] {
            let address = Address::read(text).unwrap();
            assert_eq!((shown(text).as_str(), address.url.as_str()), (want, url));
            assert_eq!(address.authorization.as_ref().map(Secret::expose), authorization);
        }
        for bad in ["file:///etc/passwd", "ftp://h/a", "h/a", "https://", "data:text/plain,x"] {
            assert!(Address::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dates_are_seconds() {
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("yesterday"), None);
    }
}
