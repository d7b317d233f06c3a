//! Challenges to `Authorization` headers: basic credentials, and bearer tokens with their cache.
//!
//! A token is kept for (endpoint, realm, service, scopes) until it expires; while one caller fetches it, the others
//! wait. A 401 replaces exactly the token that was refused. Each token request is tried once: the caller's retry loop
//! goes around it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::answer;
use crate::challenge::Challenge;
use crate::config::Endpoint;
use crate::credentials::{Credential, CredentialPaths, Credentials, Lookup};
use crate::error::Cause;
use crate::host::Host;
use crate::realm;
use crate::secret::Secret;
use crate::transport::{Call, Payload, Transport, read_small};

/// Tokens with many claims run to kilobytes.
const TOKEN_BYTES: usize = 1 << 20;
/// What the token specification sets where `expires_in` is missing.
const DEFAULT_LIFE: u64 = 60;

/// What a request is sent with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ticket {
    pub(crate) header: Option<Secret>,
    /// As whom, for messages.
    pub(crate) identity: String,
    serial: u64,
}

/// Who asks whom for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) endpoint: &'a Endpoint,
    /// `https://host:port/`
    pub(crate) base: &'a Url,
    /// As the endpoint names it.
    pub(crate) repository: &'a str,
    pub(crate) scopes: &'a [String],
}

#[derive(Debug)]
struct Issued {
    ticket: Ticket,
    until: Instant,
}

type Slot = Arc<tokio::sync::Mutex<Option<Issued>>>;

/// What was learned about registries, and the tokens they gave.
#[derive(Debug)]
pub(crate) struct Auth {
    credentials: Credentials,
    /// For tests of a login: used instead of what's stored.
    fixed: Option<Credential>,
    learned: Mutex<BTreeMap<String, Challenge>>,
    slots: Mutex<BTreeMap<String, Slot>>,
    serial: AtomicU64,
    notes: Mutex<Vec<String>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(crate) fn new(paths: CredentialPaths, helper_timeout: Duration) -> Self {
        Self {
            credentials: Credentials::new(paths, helper_timeout),
            fixed: None,
            learned: Mutex::default(),
            slots: Mutex::default(),
            serial: AtomicU64::new(1),
            notes: Mutex::default(),
        }
    }

    /// Uses this credential for everything.
    pub(crate) fn fixed(credential: Credential) -> Self {
        Self { fixed: Some(credential), ..Self::new(CredentialPaths::default(), Duration::ZERO) }
    }

    /// Credential helpers that failed, each once.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What to send before any challenge: what the last one from this registry asked for.
    pub(crate) async fn ticket(&self, transport: &Transport, asked: Asked<'_>) -> Result<Ticket, Cause> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner).get(asked.base.as_str()).cloned();
        match learned {
            Some(challenge) => self.answer(transport, asked, &challenge, None).await,
            None => Ok(Ticket { identity: "without credentials".to_owned(), ..Ticket::default() }),
        }
    }

    /// Answers a challenge; `refused` is the ticket that didn't do.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        asked: Asked<'_>,
        challenge: &Challenge,
        refused: Option<&Ticket>,
    ) -> Result<Ticket, Cause> {
        let without_scope = match challenge.clone() {
            Challenge::Bearer { realm, service, .. } => Challenge::Bearer { realm, service, scope: None },
            Challenge::Basic => Challenge::Basic,
        };
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).insert(asked.base.to_string(), without_scope);
        match challenge {
            Challenge::Basic => self.basic(asked).await,
            Challenge::Bearer { realm, service, scope } => {
                self.bearer(transport, asked, (realm, service.as_deref(), scope.as_deref()), refused).await
            }
        }
    }

    async fn lookup(&self, asked: Asked<'_>) -> Result<Lookup, Cause> {
        if let Some(credential) = &self.fixed {
            let found = crate::credentials::Found { credential: credential.clone(), place: "this login".to_owned() };
            return Ok(Lookup { found: Some(found), notes: Vec::new() });
        }
        let lookup = self.credentials.find(&asked.endpoint.key, asked.repository).await.map_err(Cause::Credentials)?;
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        for note in &lookup.notes {
            let note = format!("{note}; going on without credentials for {}", asked.endpoint.key);
            if lookup.found.is_none() && !notes.contains(&note) {
                notes.push(note);
            }
        }
        Ok(lookup)
    }

    async fn basic(&self, asked: Asked<'_>) -> Result<Ticket, Cause> {
        let lookup = self.lookup(asked).await?;
        let header = match &lookup.found {
            Some(found) => match &found.credential {
                Credential::Password { username, password } => Some(basic_header(username, password)),
                Credential::Registry { token } => Some(bearer_header(token.expose())),
                // A refresh token is only good where tokens are traded.
                Credential::Identity { .. } => None,
            },
            None => None,
        };
        Ok(Ticket { header, identity: lookup.identity(), serial: 0 })
    }

    async fn bearer(
        &self,
        transport: &Transport,
        asked: Asked<'_>,
        (realm, service, scope): (&str, Option<&str>, Option<&str>),
        refused: Option<&Ticket>,
    ) -> Result<Ticket, Cause> {
        let key = format!("{} {realm} {} {}", asked.base, service.unwrap_or_default(), asked.scopes.join(" "));
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(key).or_default())
        };
        let mut slot = slot.lock().await;
        if let Some(issued) = slot.as_ref()
            && issued.until > Instant::now()
            && refused.is_none_or(|refused| refused.serial != issued.ticket.serial)
        {
            return Ok(issued.ticket.clone());
        }
        *slot = None;
        let issued = self.request(transport, asked, realm, service, scope).await?;
        Ok(slot.insert(issued).ticket.clone())
    }

    /// Asks the token server.
    async fn request(
        &self,
        transport: &Transport,
        asked: Asked<'_>,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<Issued, Cause> {
        let lookup = self.lookup(asked).await?;
        let credential = lookup.found.as_ref().map(|found| &found.credential);
        if let Some(Credential::Registry { token }) = credential {
            let ticket = self.new_ticket(bearer_header(token.expose()), &lookup);
            return Ok(Issued { ticket, until: Instant::now() + Duration::from_hours(1) });
        }
        let realm = Url::parse(realm).map_err(|_| Cause::Protocol {
            detail: "the registry names a token server that is no address".to_owned(),
        })?;
        let plain = asked.base.scheme() == "http";
        realm::check(asked.endpoint, plain, &realm, credential.is_some())?;
        let mut wanted: Vec<String> = asked.scopes.to_vec();
        wanted.extend(scope.into_iter().flat_map(|text| text.split(' ')).filter_map(|scope| {
            let known = scope.is_empty() || asked.scopes.iter().any(|ours| covers(ours, scope));
            (!known).then(|| scope.to_owned())
        }));
        let began = Instant::now();
        let host = Host::of_url(&realm).map(|host| host.to_string()).unwrap_or_default();
        let there = |cause| Cause::TokenServer { host: host.clone(), cause: Box::new(cause) };
        let request = TokenRequest { endpoint: asked.endpoint, realm, service, scopes: &wanted, lookup: &lookup };
        let answer = request.send(transport).await.map_err(there)?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| there(Cause::Protocol { detail: "it holds no token".to_owned() }))?;
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(there(Cause::Protocol { detail: "the token holds characters that no header can".to_owned() }));
        }
        // Counted from before the request, and a tenth less: the token must still be good when it arrives.
        let life = answer.expires_in.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_LIFE).min(86_400);
        let until = began + Duration::from_secs(life) * 9 / 10;
        Ok(Issued { ticket: self.new_ticket(bearer_header(&token), &lookup), until })
    }

    fn new_ticket(&self, header: Secret, lookup: &Lookup) -> Ticket {
        let serial = self.serial.fetch_add(1, Ordering::SeqCst);
        Ticket { header: Some(header), identity: lookup.identity(), serial }
    }
}

/// One question to a token server.
struct TokenRequest<'a> {
    endpoint: &'a Endpoint,
    realm: Url,
    service: Option<&'a str>,
    scopes: &'a [String],
    lookup: &'a Lookup,
}

impl TokenRequest<'_> {
    /// Refresh tokens are traded by POST; a name and password by GET, or by POST where GET isn't served.
    async fn send(&self, transport: &Transport) -> Result<TokenAnswer, Cause> {
        match self.lookup.found.as_ref().map(|found| &found.credential) {
            Some(Credential::Identity { token }) => {
                self.post(transport, &[("grant_type", "refresh_token"), ("refresh_token", token.expose())]).await
            }
            Some(Credential::Password { username, password }) => {
                match self.get(transport, Some(&basic_header(username, password))).await {
                    Err(Cause::NotFound { .. } | Cause::Status { status: 405, .. }) => {
                        let fields =
                            [("grant_type", "password"), ("username", username), ("password", password.expose())];
                        self.post(transport, &fields).await
                    }
                    answer => answer,
                }
            }
            Some(Credential::Registry { .. }) | None => self.get(transport, None).await,
        }
    }

    async fn get(&self, transport: &Transport, authorization: Option<&Secret>) -> Result<TokenAnswer, Cause> {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in self.scopes {
                query.append_pair("scope", scope);
            }
        }
        let mut call = Call::new(self.endpoint, Method::GET, url);
        call.stay = authorization.is_some();
        self.finish(transport, &call, authorization).await
    }

    async fn post(&self, transport: &Transport, fields: &[(&str, &str)]) -> Result<TokenAnswer, Cause> {
        // The form's encoding is that of a query.
        let mut form = self.realm.clone();
        form.set_query(None);
        {
            let mut pairs = form.query_pairs_mut();
            pairs.extend_pairs(fields);
            pairs.append_pair("client_id", "kuz");
            if let Some(service) = self.service {
                pairs.append_pair("service", service);
            }
            if !self.scopes.is_empty() {
                pairs.append_pair("scope", &self.scopes.join(" "));
            }
        }
        let body = Bytes::from(form.query().unwrap_or_default().to_owned());
        let mut call = Call::new(self.endpoint, Method::POST, self.realm.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        call.payload = Payload::Bytes(body);
        call.stay = true;
        self.finish(transport, &call, None).await
    }

    async fn finish(
        &self,
        transport: &Transport,
        call: &Call<'_>,
        authorization: Option<&Secret>,
    ) -> Result<TokenAnswer, Cause> {
        let call = Call {
            headers: call.headers.iter().cloned().chain([(ACCEPT, answer::json_type())]).collect(),
            payload: match &call.payload {
                Payload::Bytes(bytes) => Payload::Bytes(bytes.clone()),
                Payload::Empty | Payload::Stream(_) => Payload::Empty,
            },
            method: call.method.clone(),
            url: call.url.clone(),
            ..*call
        };
        let exchange = transport.exchange(&call, authorization).await?;
        let stall = transport.timing.stall;
        if exchange.response.status().as_u16() != 200 {
            let whom = answer::Whom {
                key: &self.endpoint.key,
                scope: &self.scopes.join(" "),
                identity: &self.lookup.identity(),
                secrets: &self.secrets(),
            };
            return Err(answer::failure(exchange.response, false, stall, &whom).await);
        }
        let bytes = read_small(exchange.response, TOKEN_BYTES, "token", stall).await?;
        // The parser's message might quote the token.
        serde_json::from_slice(&bytes).map_err(|_| Cause::Protocol { detail: "it is no JSON with a token".to_owned() })
    }

    fn secrets(&self) -> Vec<Secret> {
        match self.lookup.found.as_ref().map(|found| &found.credential) {
            Some(Credential::Password { username, password }) => {
                vec![password.clone(), Secret::new(STANDARD.encode(format!("{username}:{}", password.expose())))]
            }
            Some(Credential::Identity { token } | Credential::Registry { token }) => vec![token.clone()],
            None => Vec::new(),
        }
    }
}

fn basic_header(username: &str, password: &Secret) -> Secret {
    Secret::new(format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.expose()))))
}

fn bearer_header(token: &str) -> Secret {
    Secret::new(format!("Bearer {token}"))
}

/// Whether a token for `ours` (`repository:a/b:pull,push`) is good for `theirs`.
fn covers(ours: &str, theirs: &str) -> bool {
    match (ours.rsplit_once(':'), theirs.rsplit_once(':')) {
        (Some((our_resource, our_actions)), Some((resource, actions))) => {
            our_resource == resource
                && actions.split(',').all(|action| our_actions.split(',').any(|ours| ours == action))
        }
        _ => ours == theirs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_cover_smaller_ones() {
        for (ours, theirs, want) in [
            ("repository:a/b:pull,push", "repository:a/b:pull", true),
            ("repository:a/b:pull", "repository:a/b:pull,push", false),
            ("repository:a/b:pull", "repository:a:pull", false),
            ("x", "x", true),
        ] {
            assert_eq!(covers(ours, theirs), want, "{ours} {theirs}");
        }
    }
}
