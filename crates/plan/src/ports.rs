//! EXPOSE: one specification (`80`, `8000-8005/udp`, also Docker's tolerated `ip:host:container`) to `port/protocol`s.
//!
//! Pure. What stands in front of the container's port is checked and dropped, as Docker does.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The ports that a specification names, or what is wrong with it.
pub(crate) fn ports(spec: &str) -> Result<Vec<String>, String> {
    let (ip, host, container) = split(spec);
    let (container, protocol) = match container.split_once('/') {
        Some((port, protocol)) => (port, protocol.to_ascii_lowercase()),
        None => (container, String::new()),
    };
    if container.is_empty() {
        return Err(format!("invalid port: \"{spec}\": no port specified"));
    }
    let protocol = match protocol.as_str() {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        other => return Err(format!("invalid port: \"{spec}\": invalid proto: {other}")),
    };
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(&ip);
    if !ip.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    let range = range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    if !host.is_empty() {
        check_host(host, container, &range)?;
    }
    Ok(range.map(|port| format!("{port}/{protocol}")).collect())
}

fn check_host(host: &str, container: &str, range: &RangeInclusive<u16>) -> Result<(), String> {
    let host_range = self::range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
    let (wanted, offered) = (range.end() - range.start(), host_range.end() - host_range.start());
    if wanted != offered && wanted != 0 {
        return Err(format!("invalid ranges specified for container and host ports: {container} and {host}"));
    }
    Ok(())
}

/// `ip:host:container` in its three parts; colons of an IPv6 address belong to it.
fn split(spec: &str) -> (String, &str, &str) {
    let mut parts = spec.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    (parts.next().unwrap_or_default().to_owned(), host, container)
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    match text.split_once('-') {
        None => number(text).map(|port| port..=port),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(first..=last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_name_ports() {
        for (spec, want) in [
            ("80", Ok("80/tcp")),
            ("80/TCP", Ok("80/tcp")),
            ("8000-8002/udp", Ok("8000/udp 8001/udp 8002/udp")),
            ("5-5", Ok("5/tcp")),
            ("[::1]:80:80", Ok("80/tcp")),
            ("::1:80:81", Ok("81/tcp")),
            ("127.0.0.1:1-3:1-3", Ok("1/tcp 2/tcp 3/tcp")),
            ("1-9:80", Ok("80/tcp")),
            ("", Err("invalid port: \"\": no port specified")),
            ("1:", Err("invalid port: \"1:\": no port specified")),
            ("80/x", Err("invalid port: \"80/x\": invalid proto: x")),
            ("65536", Err("invalid containerPort: 65536")),
            ("9-8", Err("invalid containerPort: 9-8")),
            ("+1", Err("invalid containerPort: +1")),
            ("x:80", Err("invalid hostPort: x")),
            ("localhost:1:1", Err("invalid IP address: localhost")),
            ("1-2:1-3", Err("invalid ranges specified for container and host ports: 1-3 and 1-2")),
        ] {
            let got = ports(spec).map(|ports| ports.join(" "));
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{spec}");
        }
    }
}
