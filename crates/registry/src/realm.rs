//! Which token servers may be sent a registry's credentials.
//!
//! The registry names the server, so a registry that was taken over could name anybody: the same host, a pair that is
//! known to belong together, or what the user wrote down. Without credentials any HTTPS server on the open network may
//! be asked for an anonymous token.

use reqwest::Url;

use crate::config::Endpoint;
use crate::error::Cause;
use crate::host::Host;

/// Registries whose tokens come from another host of the same owner.
const PAIRS: &[(&str, &str)] = &[
    ("registry-1.docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
    ("docker.elastic.co", "docker-auth.elastic.co"),
    ("nvcr.io", "authn.nvidia.com"),
    ("registry.digitalocean.com", "api.digitalocean.com"),
    ("registry.suse.com", "scc.suse.com"),
    ("registry.redhat.io", "sso.redhat.com"),
];

/// Passes if `realm` may be asked, with or without credentials. `plain` says that the registry itself is spoken to
/// without TLS.
pub(crate) fn check(endpoint: &Endpoint, plain: bool, realm: &Url, with_secret: bool) -> Result<(), Cause> {
    let refused = |reason: String| Err(Cause::Refused { reason });
    let Some(host) = Host::of_url(realm) else {
        return refused("the registry names a token server without a host".to_owned());
    };
    match realm.scheme() {
        "https" => {}
        "http" if plain => {}
        other => {
            return refused(format!("the registry names the token server {host}, reached by `{other}`, not https"));
        }
    }
    if !realm.username().is_empty() || realm.password().is_some() {
        return refused(format!("the registry names a token server with a name or password in its address ({host})"));
    }
    if host.name() == endpoint.host.name() || listed(endpoint, &host) {
        return Ok(());
    }
    let private = host.is_private() && !endpoint.host.is_private() && !endpoint.host.is_loopback();
    let kind = host.suspicious().filter(|_| !endpoint.host.is_loopback());
    if let Some(kind) = kind.or(private.then_some("a private address")) {
        return refused(format!("the registry names {kind} as its token server ({host}); {}", line(endpoint, &host)));
    }
    if !with_secret || (host.port().is_none() && PAIRS.contains(&(endpoint.host.name(), host.name()))) {
        return Ok(());
    }
    refused(format!(
        "the registry wants its credentials sent to another host, {host}, that is not known to belong to it; {}",
        line(endpoint, &host)
    ))
}

fn listed(endpoint: &Endpoint, host: &Host) -> bool {
    endpoint.auth.iter().any(|entry| entry.parse::<Host>().is_ok_and(|entry| entry == *host))
}

fn line(endpoint: &Endpoint, host: &Host) -> String {
    format!("if it does, add to kuz.toml: [registry.\"{}\"] auth = [\"{host}\"]", endpoint.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RegistryConfig;

    #[test]
    fn realms_are_checked() {
        let config: RegistryConfig =
            toml::from_str("[registry.\"reg.example\"]\nauth = [\"id.example\", \"10.0.0.5:8443\"]").unwrap();
        // registry, plain, realm, passes with credentials, passes without
        for (registry, plain, realm, secret, anonymous) in [
            ("docker.io", false, "https://auth.docker.io/token", true, true),
            ("docker.io", false, "http://auth.docker.io/token", false, false),
            ("docker.io", false, "https://auth.docker.io.evil.example/token", false, true),
            ("docker.io", false, "https://auth.docker.io:8443/token", false, true),
            ("quay.io", false, "https://auth.docker.io/token", false, true),
            ("quay.io", false, "https://quay.io/v2/auth", true, true),
            ("quay.io", false, "https://u:p@quay.io/v2/auth", false, false),
            ("quay.io", false, "https://169.254.169.254/latest", false, false),
            ("quay.io", false, "https://localhost/", false, false),
            ("quay.io", false, "https://10.0.0.5/", false, false),
            ("10.0.0.4", false, "https://10.0.0.5/", false, true),
            ("reg.example", false, "https://id.example/token", true, true),
            ("reg.example", false, "https://id.example:444/token", false, true),
            ("reg.example", false, "https://10.0.0.5:8443/token", true, true),
            ("reg.example", false, "http://reg.example/token", false, false),
            ("reg.example", true, "http://reg.example/token", true, true),
            ("127.0.0.1:5000", true, "http://127.0.0.1:5001/token", true, true),
            ("127.0.0.1:5000", true, "http://localhost:5001/token", false, true),
        ] {
            let endpoint = config.origin(registry).unwrap();
            let realm = Url::parse(realm).unwrap();
            let passes = |with_secret| check(&endpoint, plain, &realm, with_secret).is_ok();
            assert_eq!((passes(true), passes(false)), (secret, anonymous), "{registry} {realm}");
        }
    }

    #[test]
    fn the_refusal_prints_the_line_that_allows_it() {
        let endpoint = RegistryConfig::default().origin("reg.example:5000").unwrap();
        let realm = Url::parse("https://id.example/token").unwrap();
        let message = check(&endpoint, false, &realm, true).unwrap_err().to_string();
        assert!(message.contains("[registry.\"reg.example:5000\"] auth = [\"id.example\"]"), "{message}");
    }
}
