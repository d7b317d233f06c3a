//! The client: endpoints, schemes, and one authenticated request with its retries.
//!
//! What a request means is in `resolve`, `blob` and `push`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use crate::answer::{self, Whom};
use crate::auth::{Asked, Auth, Ticket};
use crate::challenge;
use crate::config::{ConfigError, Endpoint, RegistryConfig, Schemes};
use crate::credentials::{Credential, CredentialPaths};
use crate::error::{Action, Attempts, Cause, RegistryError};
use crate::host::Host;
use crate::retry::Patience;
use crate::transport::{Call, Payload, Transport, is_one_of};

/// Finding out whether a loopback registry speaks TLS must not take long.
const PROBE: Duration = Duration::from_secs(5);

/// A client for every registry; clones share connections, tokens and what was learned.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: RegistryConfig,
    pub(crate) transport: Transport,
    auth: Auth,
    /// Whether an endpoint that may speak either is spoken to without TLS.
    plain: Mutex<BTreeMap<Host, bool>>,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A path on the endpoint.
    Path(String),
    /// Where the endpoint itself pointed.
    Url(Url),
}

/// One request, to be sent as often as it takes.
pub(crate) struct Ask<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) method: Method,
    pub(crate) place: Place,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) payload: Payload<'a>,
    /// As the endpoint names it; empty for none.
    pub(crate) repository: &'a str,
    pub(crate) scopes: &'a [String],
    /// The statuses that are welcome.
    pub(crate) welcome: &'a [u16],
}

impl<'a> Ask<'a> {
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(crate) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }
}

/// A repository at an endpoint, with the scopes that its requests need.
pub(crate) struct Repository<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) name: String,
    pub(crate) scopes: Vec<String>,
}

impl<'a> Repository<'a> {
    pub(crate) fn new(endpoint: &'a Endpoint, path: &str, actions: &str) -> Self {
        let name = endpoint.repository(path);
        let scopes = vec![format!("repository:{name}:{actions}")];
        Self { endpoint, name, scopes }
    }

    /// A request to `/v2/NAME/…`.
    pub(crate) fn ask(&'a self, method: Method, rest: &str, welcome: &'a [u16]) -> Ask<'a> {
        self.ask_at(method, Place::Path(format!("/v2/{}/{rest}", self.name)), welcome)
    }

    pub(crate) fn ask_at(&'a self, method: Method, place: Place, welcome: &'a [u16]) -> Ask<'a> {
        Ask {
            endpoint: self.endpoint,
            method,
            place,
            headers: Vec::new(),
            payload: Payload::Empty,
            repository: &self.name,
            scopes: &self.scopes,
            welcome,
        }
    }
}

/// A welcome response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) response: Response,
    /// Where the request was sent first: what a relative `Location` is relative to.
    pub(crate) asked: Url,
}

impl Client {
    /// A client. Nothing is contacted or read yet.
    pub fn new(config: RegistryConfig, credentials: CredentialPaths) -> Result<Self, ConfigError> {
        let auth = Auth::new(credentials, config.timing.helper);
        Self::build(config, auth)
    }

    fn build(config: RegistryConfig, auth: Auth) -> Result<Self, ConfigError> {
        config.check()?;
        let transport = Transport::new(config.proxy.clone(), config.timing.clone())?;
        Ok(Self { inner: Arc::new(Inner { config, transport, auth, plain: Mutex::default() }) })
    }

    /// What the user should hear although things went on: credential helpers that failed. Each is told once.
    pub fn take_notes(&self) -> Vec<String> {
        self.inner.auth.take_notes()
    }

    /// Tries credentials out against the registry itself, before they are stored.
    pub async fn verify_login(&self, registry: &str, credential: &Credential) -> Result<(), RegistryError> {
        let attempts = Attempts::new(Action::Login, registry);
        let origin = crate::host::registry_name(registry).and_then(|name| self.inner.config.origin(&name));
        let endpoint = match origin {
            Ok(endpoint) => endpoint,
            Err(error) => return Err(attempts.fail_early(registry, Cause::Host(error))),
        };
        let fixed = match Self::build(self.inner.config.clone(), Auth::fixed(credential.clone())) {
            Ok(client) => client,
            Err(error) => return Err(attempts.fail_early("kuz.toml", Cause::Config(error))),
        };
        let ask = Ask {
            endpoint: &endpoint,
            method: Method::GET,
            place: Place::Path("/v2/".to_owned()),
            headers: Vec::new(),
            payload: Payload::Empty,
            repository: "",
            scopes: &[],
            welcome: &[200],
        };
        let mut patience = Patience::new(&self.inner.config.timing, false);
        match fixed.inner.ask(&ask, &mut patience).await {
            Ok(_) => Ok(()),
            Err(cause) => Err(attempts.fail_with(&endpoint, cause)),
        }
    }
}

impl Inner {
    /// Sends a request until its answer is welcome or patience ends.
    pub(crate) async fn ask(&self, ask: &Ask<'_>, patience: &mut Patience<'_>) -> Result<Reply, Cause> {
        loop {
            match self.once(ask).await {
                Ok(reply) => return Ok(reply),
                Err(cause) => patience.wait(cause).await?,
            }
        }
    }

    /// Sends a request; a 401 is answered once.
    pub(crate) async fn once(&self, ask: &Ask<'_>) -> Result<Reply, Cause> {
        let base = self.base(ask.endpoint).await?;
        let url = match &ask.place {
            Place::Path(path) => {
                base.join(path).map_err(|_| Cause::Protocol { detail: format!("`{path}` is no path") })?
            }
            Place::Url(url) => url.clone(),
        };
        let asked = Asked { endpoint: ask.endpoint, base: &base, repository: ask.repository, scopes: ask.scopes };
        // Where the registry pointed to another origin, its credentials stay at home.
        let home = crate::transport::same_origin(&base, &url);
        let mut ticket = if home { self.auth.ticket(&self.transport, asked).await? } else { Ticket::default() };
        let mut refreshed = false;
        loop {
            let call = Call {
                endpoint: ask.endpoint,
                method: ask.method.clone(),
                url: url.clone(),
                headers: ask.headers.clone(),
                payload: match &ask.payload {
                    Payload::Empty => Payload::Empty,
                    Payload::Bytes(bytes) => Payload::Bytes(bytes.clone()),
                    Payload::Stream(open) => Payload::Stream(*open),
                },
                stay: false,
            };
            let exchange = self.transport.exchange(&call, ticket.header.as_ref()).await?;
            let (response, foreign) = (exchange.response, exchange.foreign || !home);
            if is_one_of(response.status(), ask.welcome) {
                return Ok(Reply { response, asked: url });
            }
            if response.status().as_u16() == 401
                && !foreign
                && !refreshed
                && let Some(challenge) = challenge::read(response.headers())
            {
                refreshed = true;
                let next = self.auth.answer(&self.transport, asked, &challenge, Some(&ticket)).await?;
                let new = next.header.is_some() && next.header != ticket.header;
                ticket = next;
                if new {
                    continue;
                }
            }
            let secrets: Vec<_> = ticket.header.iter().cloned().collect();
            let whom = Whom {
                key: &ask.endpoint.key,
                scope: &ask.scopes.join(" "),
                identity: &ticket.identity,
                secrets: &secrets,
            };
            return Err(answer::failure(response, foreign, self.transport.timing.stall, &whom).await);
        }
    }

    /// `https://host:port/`, or `http:` where that is what the endpoint speaks and may speak.
    pub(crate) async fn base(&self, endpoint: &Endpoint) -> Result<Url, Cause> {
        let plain = match endpoint.schemes {
            Schemes::Https => false,
            Schemes::Http => true,
            Schemes::Either => self.probe(endpoint).await?,
        };
        root(endpoint, plain)
    }

    /// Whether a registry on loopback speaks plain HTTP; remembered once somebody answered. Plain is tried first, with
    /// nothing in it that is secret: reading the certificate authorities takes longer than all else.
    /// A server of TLS closes such a connection or answers with an error; then TLS decides.
    async fn probe(&self, endpoint: &Endpoint) -> Result<bool, Cause> {
        let known = self.plain.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint.host).copied();
        if let Some(plain) = known {
            return Ok(plain);
        }
        let plain = self.speaks_plain(endpoint).await?;
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.host.clone(), plain);
        Ok(plain)
    }

    async fn speaks_plain(&self, endpoint: &Endpoint) -> Result<bool, Cause> {
        let http = self.ping(endpoint, true).await;
        let doubted = match &http {
            // What a registry says to everybody, or to those whom it does not know yet.
            Ok((status, _)) if matches!(status.as_u16(), 200 | 401) => return Ok(true),
            Ok((_, to_tls)) => !to_tls,
            Err(_) => false,
        };
        match self.ping(endpoint, false).await {
            Ok(_) => Ok(false),
            // Somebody speaks TLS there: no silent step down.
            Err(cause @ (Cause::Untrusted { .. } | Cause::Local { .. } | Cause::Refused { .. })) => Err(cause),
            Err(_) if doubted => Ok(true),
            Err(tls) => {
                let plain =
                    http.map_or_else(|cause| cause.to_string(), |(status, _)| format!("status {}", status.as_u16()));
                Err(Cause::Unreachable { detail: format!("https: {tls}; http: {plain}") })
            }
        }
    }

    /// How `/v2/` is answered, and whether by being sent to an address of TLS.
    async fn ping(&self, endpoint: &Endpoint, plain: bool) -> Result<(StatusCode, bool), Cause> {
        let url = root(endpoint, plain)?;
        let url = url.join("/v2/").unwrap_or(url);
        let call = Call::new(endpoint, Method::GET, url);
        let answer = tokio::time::timeout(PROBE, self.transport.once(&call)).await;
        let answer = answer.unwrap_or(Err(Cause::TimedOut { what: "an answer", waited: PROBE }))?;
        let to_tls = answer.headers().get(LOCATION).is_some_and(|place| place.as_bytes().starts_with(b"https:"));
        Ok((answer.status(), to_tls))
    }
}

fn root(endpoint: &Endpoint, plain: bool) -> Result<Url, Cause> {
    let text = format!("{}://{}/", if plain { "http" } else { "https" }, endpoint.host);
    Url::parse(&text).map_err(|_| Cause::Protocol { detail: format!("`{text}` is no address") })
}
