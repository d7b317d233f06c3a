//! Host names with ports, and the endpoints that a reference leads to.
//!
//! Text in, checked values out; comparisons are of whole names, never of suffixes (look-alike hosts get nothing).
//! Deliberately resolves no names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use reqwest::Url;

/// Docker Hub's domain as references spell it.
pub(crate) const HUB: &str = "docker.io";
/// The host that answers for Docker Hub.
const HUB_API: &str = "registry-1.docker.io";

/// A host name or address, and a port where one was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

/// Why a text is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no registry host (want host or host:port, without a scheme)", text.escape_debug())]
pub struct HostError {
    text: String,
}

impl Host {
    /// The name without the port; IPv6 addresses in brackets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port, where one was written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The host of an address on the web; the scheme's own port counts as none.
    pub(crate) fn of_url(url: &Url) -> Option<Self> {
        Some(Self { name: url.host_str()?.to_ascii_lowercase(), port: url.port() })
    }

    /// The address, where the name is one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let bare = self.name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&self.name);
        bare.parse().ok()
    }

    /// 127.0.0.0/8, `::1` and `localhost`.
    pub fn is_loopback(&self) -> bool {
        self.name == "localhost" || self.address().is_some_and(|address| canonical(address).is_loopback())
    }

    /// Addresses that a server out on the network has no reason to name, and why.
    pub(crate) fn suspicious(&self) -> Option<&'static str> {
        if self.is_loopback() {
            return Some("a loopback address");
        }
        match canonical(self.address()?) {
            address if address.is_unspecified() => Some("the unspecified address"),
            IpAddr::V4(address) if address.is_link_local() => Some("a link-local address"),
            IpAddr::V6(address) if address.is_unicast_link_local() => Some("a link-local address"),
            _ => None,
        }
    }

    /// Addresses of private networks.
    pub(crate) fn is_private(&self) -> bool {
        match self.address().map(canonical) {
            Some(IpAddr::V4(address)) => address.is_private(),
            Some(IpAddr::V6(address)) => address.is_unique_local(),
            None => false,
        }
    }
}

/// IPv4 addresses may come dressed up as IPv6 ones.
fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let bad = || HostError { text: text.chars().take(200).collect() };
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => {
                let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
                let port = if digits { port.parse().map_err(|_| bad())? } else { return Err(bad()) };
                (name, Some(port))
            }
            _ => (text, None),
        };
        let valid = match name.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').is_some_and(|six| six.parse::<Ipv6Addr>().is_ok()),
            None => {
                !name.is_empty()
                    && name.len() <= 253
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
                    && odd_number(name).is_none()
            }
        };
        if !valid {
            return Err(bad());
        }
        Ok(Self { name: name.to_ascii_lowercase(), port })
    }
}

/// `2130706433` and `0x7f.1` are addresses to a URL parser; only the usual spelling is taken.
fn odd_number(name: &str) -> Option<()> {
    let last = name.rsplit('.').next()?;
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    (numeric && name.parse::<Ipv4Addr>().is_err()).then_some(())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Docker Hub goes by several names; every other host by its own.
pub(crate) fn registry_key(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        HUB | HUB_API | "index.docker.io" => HUB.to_owned(),
        other => other.to_owned(),
    }
}

/// A registry as somebody typed it (`quay.io`, `https://index.docker.io/v1/`) to the name that it is stored under.
pub fn registry_name(text: &str) -> Result<String, HostError> {
    let text = text.trim();
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let name = bare.trim_end_matches('/');
    let name = name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name);
    let host: Host = name.parse()?;
    Ok(registry_key(&host.to_string()))
}

/// The host that answers for a registry.
pub(crate) fn api_host(key: &str) -> Result<Host, HostError> {
    if key == HUB { HUB_API.parse() } else { key.parse() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_parsed_strictly() {
        for good in ["docker.io", "localhost:5000", "127.0.0.1:5000", "[::1]:5000", "[::1]", "a-b.c"] {
            assert_eq!(good.parse::<Host>().unwrap().to_string(), good);
        }
        for bad in
            ["", ":80", "a:", "a:b", "a:99999", "http://a", "a/b", "u@a", "a b", "[::1", "::1", "2130706433", "127.1"]
        {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }

    #[test]
    fn typed_names_are_normalised() {
        for (typed, want) in [
            ("quay.io", Some("quay.io")),
            (" https://Quay.io/ ", Some("quay.io")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("registry-1.docker.io", Some("docker.io")),
            ("127.0.0.1:5000/v2/", Some("127.0.0.1:5000")),
            ("quay.io/team", None),
            ("u@quay.io", None),
            ("", None),
        ] {
            assert_eq!(registry_name(typed).ok().as_deref(), want, "{typed}");
        }
    }

    #[test]
    fn special_addresses_are_known() {
        for (text, loopback, suspicious, private) in [
            ("localhost:1", true, true, false),
            ("127.9.9.9", true, true, false),
            ("[::ffff:127.0.0.1]", true, true, false),
            ("localhost.evil.example", false, false, false),
            ("169.254.169.254", false, true, false),
            ("0.0.0.0", false, true, false),
            ("[fe80::1]", false, true, false),
            ("10.1.2.3", false, false, true),
            ("quay.io", false, false, false),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!(
                (host.is_loopback(), host.suspicious().is_some(), host.is_private()),
                (loopback, suspicious, private),
                "{text}"
            );
        }
    }
}
