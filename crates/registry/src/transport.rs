//! One HTTP exchange: clients by trust, deadlines, and redirects that never carry credentials elsewhere.
//!
//! A [`Call`] goes in, a response comes out, whatever its status. Retrying, authentication and the meaning of
//! statuses are not decided here. HTTP/1.1 only: parallel blobs get connections of their own, and there's no shared
//! flow-control window that one of them could fill.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method, Response, StatusCode, Url};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::{ConfigError, Endpoint, ProxySettings, Timing};
use crate::error::{Cause, flatten};
use crate::host::Host;
use crate::secret::Secret;
use crate::upload_body::UploadBody;

/// Registries redirect once, to their storage; some of those once more.
const REDIRECTS: usize = 5;
/// A file of certificate authorities.
const CA_BYTES: u64 = 4 << 20;

/// What is sent.
pub(crate) enum Payload<'a> {
    Empty,
    Bytes(Bytes),
    /// Opened anew for each try.
    Stream(&'a (dyn Fn() -> Result<UploadBody, Cause> + Send + Sync)),
}

/// One request.
pub(crate) struct Call<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) payload: Payload<'a>,
    /// Redirects to another origin are refused: what is sent is a secret.
    pub(crate) stay: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(endpoint: &'a Endpoint, method: Method, url: Url) -> Self {
        Self { endpoint, method, url, headers: Vec::new(), payload: Payload::Empty, stay: false }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

/// A response, and whether it came from another origin than was asked.
pub(crate) struct Exchange {
    pub(crate) response: Response,
    pub(crate) foreign: bool,
}

/// Which certificates a client trusts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// None: it only speaks plain HTTP.
    Nothing,
    /// All: `insecure`.
    Everything,
    /// The system's, and these files'.
    System(Vec<PathBuf>),
}

/// The clients.
#[derive(Debug)]
pub(crate) struct Transport {
    clients: Mutex<BTreeMap<Trust, Client>>,
    system: OnceLock<RootCertStore>,
    proxy: ProxySettings,
    pub(crate) timing: Timing,
}

impl Transport {
    pub(crate) fn new(proxy: ProxySettings, timing: Timing) -> Result<Self, ConfigError> {
        // A provider that is there already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let transport = Self { clients: Mutex::default(), system: OnceLock::new(), proxy, timing };
        transport.proxies()?;
        Ok(transport)
    }

    /// Sends a call and follows its redirects.
    pub(crate) async fn exchange(&self, call: &Call<'_>, authorization: Option<&Secret>) -> Result<Exchange, Cause> {
        let mut url = call.url.clone();
        let mut method = call.method.clone();
        let mut foreign = false;
        for _ in 0..=REDIRECTS {
            let authorization = authorization.filter(|_| !foreign);
            let response = self.send(call, &method, &url, authorization).await?;
            let Some(next) = redirect(&response, &url)? else { return Ok(Exchange { response, foreign }) };
            check_hop(call.endpoint, &url, &next)?;
            let keeps_method = matches!(response.status().as_u16(), 307 | 308);
            if !keeps_method && !matches!(method, Method::GET | Method::HEAD) {
                if method != Method::POST {
                    let detail = format!("{method} was redirected with status {}", response.status().as_u16());
                    return Err(Cause::Protocol { detail });
                }
                method = Method::GET;
            }
            // Once away, credentials don't come back even if the way leads home again.
            foreign |= !same_origin(&call.url, &next);
            if foreign && call.stay {
                let host = Host::of_url(&next).map(|host| host.to_string()).unwrap_or_default();
                return Err(Cause::Refused { reason: format!("credentials were to be redirected to {host}") });
            }
            url = next;
        }
        Err(Cause::Protocol { detail: format!("more than {REDIRECTS} redirects") })
    }

    /// Sends a call without credentials and follows no redirect.
    pub(crate) async fn once(&self, call: &Call<'_>) -> Result<Response, Cause> {
        self.send(call, &call.method, &call.url, None).await
    }

    async fn send(
        &self,
        call: &Call<'_>,
        method: &Method,
        url: &Url,
        authorization: Option<&Secret>,
    ) -> Result<Response, Cause> {
        let client = self.client(call.endpoint, url.scheme() == "https")?;
        let mut headers = HeaderMap::new();
        for (name, value) in &call.headers {
            headers.append(name, value.clone());
        }
        if let Some(secret) = authorization {
            let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| Cause::Protocol {
                detail: "the credentials hold characters that no header can carry".to_owned(),
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut request = client.request(method.clone(), url.clone());
        let mut pulse = None;
        match &call.payload {
            _ if *method == Method::GET || *method == Method::HEAD => {}
            Payload::Empty => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            Payload::Bytes(bytes) => request = request.body(bytes.clone()),
            Payload::Stream(open) => {
                let body = open()?;
                headers.insert(CONTENT_LENGTH, HeaderValue::from(body.length));
                pulse = Some(Arc::clone(&body.pulse));
                request = request.body(body.into_body());
            }
        }
        let answer = request.headers(headers).send();
        let waited = match pulse {
            None => tokio::time::timeout(self.timing.answer, answer).await.ok(),
            Some(pulse) => tokio::select! {
                answer = answer => Some(answer),
                () = pulse.stopped(self.timing.stall, self.timing.commit) => None,
            },
        };
        match waited {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => Err(explain(error, url, "before it was answered")),
            None => Err(Cause::TimedOut { what: "an answer", waited: self.timing.answer }),
        }
    }

    fn client(&self, endpoint: &Endpoint, tls: bool) -> Result<Client, Cause> {
        let trust = match (tls, endpoint.insecure) {
            (false, _) => Trust::Nothing,
            (true, true) => Trust::Everything,
            (true, false) => Trust::System(endpoint.ca.clone()),
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&trust) {
            return Ok(client.clone());
        }
        let client = self.build(&trust)?;
        clients.insert(trust, client.clone());
        Ok(client)
    }

    fn build(&self, trust: &Trust) -> Result<Client, Cause> {
        let mut builder = Client::builder()
            .user_agent(concat!("kuz/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .connect_timeout(self.timing.connect)
            .pool_idle_timeout(Duration::from_secs(20))
            .no_proxy();
        for proxy in self.proxies().map_err(Cause::Config)? {
            builder = builder.proxy(proxy);
        }
        builder = match trust {
            Trust::Everything => builder.tls_danger_accept_invalid_certs(true),
            Trust::Nothing => builder.tls_backend_preconfigured(tls_config(RootCertStore::empty())),
            Trust::System(files) => {
                let mut roots = self.system_roots().clone();
                for file in files {
                    add_authorities(&mut roots, file)?;
                }
                builder.tls_backend_preconfigured(tls_config(roots))
            }
        };
        builder.build().map_err(|error| Cause::Unreachable { detail: flatten(&error) })
    }

    /// The system's certificate authorities; Mozilla's list where the machine has none (bare CI containers).
    fn system_roots(&self) -> &RootCertStore {
        self.system.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            roots
        })
    }

    fn proxies(&self) -> Result<Vec<reqwest::Proxy>, ConfigError> {
        let direct = format!("{},localhost,127.0.0.0/8,::1", self.proxy.no_proxy.as_deref().unwrap_or_default());
        let make = |scheme: &'static str, address: &str| {
            let bad = |detail: String| ConfigError::Proxy { scheme, detail };
            let with_scheme = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
            let url = Url::parse(&with_scheme).map_err(|error| bad(error.to_string()))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(bad(format!("only http and https proxies are supported, not `{}`", url.scheme())));
            }
            let proxy = if scheme == "http" { reqwest::Proxy::http(url) } else { reqwest::Proxy::https(url) };
            let proxy = proxy.map_err(|error| bad(flatten(&error.without_url())))?;
            Ok(proxy.no_proxy(reqwest::NoProxy::from_string(&direct)))
        };
        let http = self.proxy.http.iter().map(|address| make("http", address));
        http.chain(self.proxy.https.iter().map(|address| make("https", address))).collect()
    }
}

fn tls_config(roots: RootCertStore) -> rustls::ClientConfig {
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn add_authorities(roots: &mut RootCertStore, path: &PathBuf) -> Result<(), Cause> {
    use std::io::Read;
    let failed = |error| Cause::Local { what: format!("read certificate authorities from {}", path.display()), error };
    let mut pem = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(CA_BYTES).read_to_end(&mut pem)).map_err(failed)?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| failed(io::Error::other(error)))?;
        roots.add(certificate).map_err(|error| failed(io::Error::other(error)))?;
        count += 1;
    }
    if count == 0 {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "there is no certificate in it")));
    }
    Ok(())
}

/// Where a response points, if it's a redirect.
fn redirect(response: &Response, url: &Url) -> Result<Option<Url>, Cause> {
    let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = response.headers().get(LOCATION).filter(|_| redirects) else { return Ok(None) };
    resolve_location(location, url).map(Some)
}

/// A `Location`, relative or not.
pub(crate) fn resolve_location(location: &HeaderValue, url: &Url) -> Result<Url, Cause> {
    let bad = || Cause::Protocol { detail: "its `Location` is no address".to_owned() };
    url.join(location.to_str().map_err(|_| bad())?).map_err(|_| bad())
}

/// Refuses to be led to where no registry has business to lead.
pub(crate) fn check_hop(endpoint: &Endpoint, from: &Url, to: &Url) -> Result<(), Cause> {
    let refused = |reason: String| Err(Cause::Refused { reason });
    let Some(host) = Host::of_url(to) else { return refused("a redirect to an address without a host".to_owned()) };
    match to.scheme() {
        "https" => {}
        "http" if from.scheme() == "http" => {}
        "http" => return refused(format!("a redirect from https to plain http ({host})")),
        other => return refused(format!("a redirect to `{other}:`")),
    }
    if !to.username().is_empty() || to.password().is_some() {
        return refused(format!("a redirect to an address with a name or password in it ({host})"));
    }
    match host.suspicious() {
        Some(kind) if !endpoint.host.is_loopback() && host.name() != endpoint.host.name() => {
            refused(format!("a redirect to {kind} ({host})"))
        }
        _ => Ok(()),
    }
}

/// Same scheme, host and port.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// reqwest's error in our words; without the address, which may carry a signature.
pub(crate) fn explain(error: reqwest::Error, url: &Url, what: &str) -> Cause {
    let error = error.without_url();
    let detail = flatten(&error);
    if detail.contains("invalid peer certificate") {
        return Cause::Untrusted { detail, host: Host::of_url(url).map(|host| host.to_string()).unwrap_or_default() };
    }
    if error.is_connect() {
        return Cause::Unreachable { detail };
    }
    Cause::Broken { what: what.to_owned(), detail }
}

/// Reads a small body, bounded in size and time.
pub(crate) async fn read_small(
    mut response: Response,
    limit: usize,
    what: &'static str,
    stall: Duration,
) -> Result<Vec<u8>, Cause> {
    let too_large = || Cause::Limit { what, limit };
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = next_chunk(&mut response, stall).await? {
        if bytes.len() + chunk.len() > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The next piece of a body, or a deadline passed.
pub(crate) async fn next_chunk(response: &mut Response, stall: Duration) -> Result<Option<Bytes>, Cause> {
    let url = response.url().clone();
    tokio::time::timeout(stall, response.chunk())
        .await
        .map_err(|_| Cause::TimedOut { what: "the next bytes", waited: stall })?
        .map_err(|error| explain(error, &url, "in the middle of the answer"))
}

/// Whether a status is among those that are wanted.
pub(crate) fn is_one_of(status: StatusCode, wanted: &[u16]) -> bool {
    wanted.contains(&status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RegistryConfig;

    #[test]
    fn hops_are_checked() {
        let config = RegistryConfig::default();
        let far = config.origin("quay.io").unwrap();
        let near = config.origin("localhost:5000").unwrap();
        for (endpoint, from, to, good) in [
            (&far, "https://quay.io/v2/", "https://cdn.example/x", true),
            (&far, "https://quay.io/v2/", "http://cdn.example/x", false),
            (&far, "https://quay.io/v2/", "http://quay.io/x", false),
            (&far, "https://quay.io/v2/", "https://169.254.169.254/x", false),
            (&far, "https://quay.io/v2/", "https://127.0.0.1/x", false),
            (&far, "https://quay.io/v2/", "https://2130706433/x", false),
            (&far, "https://quay.io/v2/", "https://u:p@cdn.example/x", false),
            (&far, "https://quay.io/v2/", "ftp://cdn.example/x", false),
            (&near, "http://localhost:5000/v2/", "http://localhost:5001/x", true),
        ] {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            assert_eq!(check_hop(endpoint, &from, &to).is_ok(), good, "{to}");
        }
    }
}
