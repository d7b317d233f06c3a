//! `WWW-Authenticate` headers to what a registry wants.

use http_auth::parser::ChallengeParser;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// What a registry wants of its callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token from the realm.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The challenge to answer: bearer before basic; `None` where neither is offered.
pub(crate) fn read(headers: &HeaderMap) -> Option<Challenge> {
    let mut best = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        // A malformed tail doesn't spoil what was understood before it.
        for challenge in ChallengeParser::new(text).map_while(Result::ok) {
            let parameter = |wanted: &str| {
                let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = parameter("realm") {
                    return Some(Challenge::Bearer { realm, service: parameter("service"), scope: parameter("scope") });
                }
            } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                best = Some(Challenge::Basic);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn challenges_are_understood() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(Into::into),
                scope: scope.map(Into::into),
            })
        };
        for (headers, want) in [
            (vec!["Basic realm=\"x\""], Some(Challenge::Basic)),
            (
                vec!["Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:a/b:pull,push\""],
                bearer("https://a/t", Some("s"), Some("repository:a/b:pull,push")),
            ),
            (vec!["basic realm=x", "bearer Realm=\"https://a\""], bearer("https://a", None, None)),
            (vec!["Basic realm=\"x\", Bearer realm=\"https://a\""], bearer("https://a", None, None)),
            (vec!["Negotiate"], None),
            (vec!["Bearer service=\"s\""], None),
            (vec!["\u{7f}"], None),
            (vec![], None),
        ] {
            let mut map = HeaderMap::new();
            for header in &headers {
                if let Ok(value) = HeaderValue::from_str(header) {
                    map.append(WWW_AUTHENTICATE, value);
                }
            }
            assert_eq!(read(&map), want, "{headers:?}");
        }
    }
}
