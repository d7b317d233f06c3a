//! What a smoke run waits for: the request's URL and the image's configuration to a sign that the service is ready.
//!
//! Values only: nothing is asked here. The order is the design's: a URL, HEALTHCHECK, an exposed port, being alive.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::Uri;
use hyper::http::uri::PathAndQuery;
use kuz_image::Config;

/// The port of a URL that names none.
const HTTP_PORT: u16 = 80;
/// CMD-SHELL's shell where the image names none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// `--health`: what is asked of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// As typed: the host and port, if any.
    place: Option<Place>,
    /// From the slash on.
    path: String,
}

/// Where a URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
}

impl Health {
    /// Reads a path such as `/healthz`, or a whole URL of the container's own loopback. The message says what to do.
    pub fn parse(text: &str) -> Result<Self, String> {
        const WANT: &str = "want a path such as /healthz, or http://127.0.0.1:PORT/PATH";
        if text.starts_with('/') {
            let path: PathAndQuery = text.parse().map_err(|error| format!("{error} ({WANT})"))?;
            return Ok(Self { place: None, path: path.to_string() });
        }
        let uri: Uri = text.parse().map_err(|error| format!("{error} ({WANT})"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err("the service is asked inside its sandbox, over plain HTTP: want http:// or a path".into());
            }
            Some(other) => return Err(format!("`{other}` cannot be asked ({WANT})")),
            None => return Err(format!("it is neither a path nor a whole URL ({WANT})")),
        }
        let authority = uri.authority().ok_or_else(|| format!("it names no host ({WANT})"))?;
        if authority.as_str().contains('@') {
            return Err("a user name or password cannot be sent".into());
        }
        let host = authority.host().to_owned();
        if addresses(&host).is_empty() {
            return Err(format!("`{host}` is not the container itself ({WANT})"));
        }
        let named = authority.as_str().strip_prefix(host.as_str()).and_then(|rest| rest.strip_prefix(':'));
        let port = match named {
            None => HTTP_PORT,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(format!("`{port}` is no port (want 1 to 65535)")),
                Ok(port) => port,
            },
        };
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
        Ok(Self { place: Some(Place { host, port }), path })
    }
}

/// The addresses that a host of a URL stands for inside, the likelier first; none if it is not the container itself.
fn addresses(host: &str) -> Vec<IpAddr> {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    match host {
        "localhost" | "0.0.0.0" => vec![v4, v6],
        "[::1]" => vec![v6],
        other => match other.parse::<Ipv4Addr>() {
            Ok(address) if address.is_loopback() => vec![IpAddr::V4(address)],
            _ => Vec::new(),
        },
    }
}

/// What says that the service is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sign {
    /// A URL answers 2xx or 3xx.
    Url(Target),
    /// The image's HEALTHCHECK succeeds: its command line.
    Check(Vec<String>),
    /// One of these TCP ports accepts a connection.
    Ports(Vec<u16>),
    /// It is alive at the end.
    Alive,
}

/// A URL with everything that it leaves open filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Tried in this order.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) port: u16,
    /// For the `Host` header and for people.
    pub(super) authority: String,
    pub(super) path: String,
}

impl Sign {
    /// What to wait for; or what is wrong with the request, for this image.
    pub(super) fn choose(health: Option<&Health>, config: &Config) -> Result<Self, String> {
        let ports = exposed(config);
        if let Some(health) = health {
            return target(health, &ports).map(Self::Url);
        }
        if let Some(argv) = check(config)? {
            return Ok(Self::Check(argv));
        }
        Ok(if ports.is_empty() { Self::Alive } else { Self::Ports(ports) })
    }

    /// The ports that are looked at from here.
    pub(super) fn ports(&self) -> &[u16] {
        match self {
            Self::Url(target) => std::slice::from_ref(&target.port),
            Self::Ports(ports) => ports,
            Self::Check(_) | Self::Alive => &[],
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(target) => write!(f, "{target}"),
            Self::Check(argv) => write!(f, "HEALTHCHECK `{}`", super::line(argv)),
            Self::Ports(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                write!(f, "a connection on port {}", ports.join(" or "))
            }
            Self::Alive => write!(f, "being alive"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

fn target(health: &Health, ports: &[u16]) -> Result<Target, String> {
    let path = &health.path;
    let (host, port) = match (&health.place, ports.first()) {
        (Some(place), _) => (place.host.as_str(), place.port),
        (None, Some(port)) => ("localhost", *port),
        (None, None) => {
            return Err(format!(
                "`--health {path}` names no port and the image exposes none: write http://127.0.0.1:PORT{path}, or EXPOSE \
                 the port in the Dockerfile"
            ));
        }
    };
    let authority = if port == HTTP_PORT { host.to_owned() } else { format!("{host}:{port}") };
    Ok(Target { addresses: addresses(host), port, authority, path: path.clone() })
}

/// The TCP ports of EXPOSE, in order of their numbers: the configuration keeps no other order.
fn exposed(config: &Config) -> Vec<u16> {
    let names = config.exposed_ports.iter().flat_map(|ports| ports.keys());
    let tcp = names.filter_map(|name| match name.split_once('/') {
        None => Some(name.as_str()),
        Some((port, protocol)) => protocol.eq_ignore_ascii_case("tcp").then_some(port),
    });
    let mut ports: Vec<u16> = tcp.filter_map(|port| port.parse().ok()).filter(|port| *port > 0).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The command line of HEALTHCHECK, if there is one.
fn check(config: &Config) -> Result<Option<Vec<String>>, String> {
    let Some(test) = config.healthcheck.as_ref().and_then(|check| check.test.as_deref()) else { return Ok(None) };
    match test {
        [] => Ok(None),
        [kind, ..] if kind == "NONE" => Ok(None),
        [kind, argv @ ..] if kind == "CMD" && !argv.is_empty() => Ok(Some(argv.to_vec())),
        [kind, line] if kind == "CMD-SHELL" => {
            let shell = config.shell.clone().filter(|shell| !shell.is_empty());
            let shell = shell.unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
            Ok(Some(shell.into_iter().chain([line.clone()]).collect()))
        }
        [kind, ..] => Err(format!("the image's HEALTHCHECK is of a kind that kuz does not know: `{kind}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        serde_json::from_str(json).unwrap_or_default()
    }

    #[test]
    fn urls_lead_into_the_container() {
        let exposing = config(r#"{"ExposedPorts":{"9000/tcp":{},"53/udp":{},"8000/tcp":{},"10000":{}}}"#);
        for (text, want) in [
            ("/healthz", "http://localhost:8000/healthz"),
            ("/a?b=c%20d", "http://localhost:8000/a?b=c%20d"),
            ("http://127.0.0.1:9/x", "http://127.0.0.1:9/x"),
            ("http://127.0.0.1", "http://127.0.0.1/"),
            ("http://localhost:80/", "http://localhost/"),
            ("http://0.0.0.0:8000/#part", "http://0.0.0.0:8000/"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ] {
            let health = Health::parse(text);
            let sign = health.clone().and_then(|health| Sign::choose(Some(&health), &exposing));
            assert_eq!(sign.map(|sign| sign.to_string()), Ok(want.to_owned()), "{text}: {health:?}");
        }
        for (text, part) in [
            ("", "empty"),
            ("healthz", "neither a path nor a whole URL"),
            ("localhost:8000", "neither a path nor a whole URL"),
            ("https://127.0.0.1:8000/", "plain HTTP"),
            ("ftp://127.0.0.1/", "`ftp` cannot be asked"),
            ("http://example.com/", "`example.com` is not the container itself"),
            ("http://10.0.0.1:80/", "is not the container itself"),
            ("http://me:secret@127.0.0.1/", "password cannot be sent"),
            ("http://127.0.0.1:0/", "`0` is no port"),
            ("http://127.0.0.1:99999/", "`99999` is no port"),
            ("http://127.0.0.1:/", "is no port"),
            ("/a b", "want a path"),
        ] {
            let message = Health::parse(text).err().unwrap_or_default();
            assert!(message.contains(part), "{text}: {message}");
        }
        let health = Health::parse("/healthz").ok();
        let message = Sign::choose(health.as_ref(), &config(r#"{"ExposedPorts":{"53/udp":{}}}"#)).err();
        assert!(message.is_some_and(|message| message.contains("http://127.0.0.1:PORT/healthz")));
    }

    #[test]
    fn the_sign_is_the_first_that_the_image_offers() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (json, want) in [
            ("{}", Ok(Sign::Alive)),
            (r#"{"ExposedPorts":{"53/udp":{}}}"#, Ok(Sign::Alive)),
            (r#"{"ExposedPorts":{"90/TCP":{},"80/tcp":{},"x/tcp":{}}}"#, Ok(Sign::Ports(vec![80, 90]))),
            (r#"{"Healthcheck":{"Test":["NONE"]},"ExposedPorts":{"80/tcp":{}}}"#, Ok(Sign::Ports(vec![80]))),
            (r#"{"Healthcheck":{"Interval":5},"ExposedPorts":{"80/tcp":{}}}"#, Ok(Sign::Ports(vec![80]))),
            (r#"{"Healthcheck":{"Test":["CMD","a","b"]},"ExposedPorts":{"80/tcp":{}}}"#, Ok(Sign::Check(words("a b")))),
            (r#"{"Healthcheck":{"Test":["CMD-SHELL","a"]}}"#, Ok(Sign::Check(words("/bin/sh -c a")))),
            (r#"{"Healthcheck":{"Test":["CMD-SHELL","a"]},"Shell":["/b","-x"]}"#, Ok(Sign::Check(words("/b -x a")))),
            (r#"{"Healthcheck":{"Test":["CMD"]}}"#, Err("HEALTHCHECK")),
            (r#"{"Healthcheck":{"Test":["HTTP","/"]}}"#, Err("`HTTP`")),
        ] {
            match (Sign::choose(None, &config(json)), want) {
                (Ok(sign), Ok(want)) => assert_eq!(sign, want, "{json}"),
                (Err(message), Err(part)) => assert!(message.contains(part), "{json}: {message}"),
                (got, want) => assert!(got.is_ok() == want.is_ok(), "{json}: {got:?}"),
            }
        }
    }
}
