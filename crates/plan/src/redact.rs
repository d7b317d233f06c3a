//! Credentials in addresses: taken out of what is shown and kept.
//!
//! A text in, the same text without the names and passwords of its addresses and without the values of queries that are
//! called as secrets are. Everything else stays as it is, so that a history line still says where files came from.

use std::borrow::Cow;

/// What stands in a secret's place, as in BuildKit.
const HIDDEN: &str = "xxxxx";
/// Parts of the names of queries whose values are secret.
const SECRET: [&str; 8] = ["token", "secret", "passw", "signature", "credential", "auth", "api_key", "apikey"];
/// Such names in full.
const SECRET_NAMES: [&str; 4] = ["key", "sig", "pwd", "access_key"];

/// A text with the secrets of its addresses hidden.
pub(crate) fn addresses(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).unwrap_or(after.len());
        let (address, behind) = after.split_at(end);
        shown.push_str(before);
        let web = before.ends_with("http://") || before.ends_with("https://");
        address_into(address, web, &mut shown);
        rest = behind;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// What follows a `://`; `web` where that is http or https.
fn address_into(address: &str, web: bool, shown: &mut String) {
    let authority_end = address.find(['/', '?', '#']).unwrap_or(address.len());
    let (authority, path) = address.split_at(authority_end);
    match authority.rsplit_once('@') {
        // A name alone is how ssh is told whom to be, and how the web is shown a token.
        Some((user, host)) if user.contains(':') => shown.extend([HIDDEN, ":", HIDDEN, "@", host]),
        Some((_, host)) if web => shown.extend([HIDDEN, "@", host]),
        _ => shown.push_str(authority),
    }
    let (path, fragment) = path.split_once('#').map_or((path, None), |(path, fragment)| (path, Some(fragment)));
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    shown.push_str(path);
    for (number, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if number == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if is_secret(name) => shown.extend([name, "=", HIDDEN]),
            _ => shown.push_str(pair),
        }
    }
    if let Some(fragment) = fragment {
        shown.push('#');
        shown.push_str(fragment);
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET.iter().any(|part| name.contains(part)) || SECRET_NAMES.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[test]
    fn only_secrets_are_hidden() {
        for (text, want) in [
            ("ADD a b", "ADD a b"),
            ("ADD https://h/a?x=1#f:g /d", "ADD https://h/a?x=1#f:g /d"),
            ("ADD https://me:pass@h:81/a /d", "ADD https://xxxxx:xxxxx@h:81/a /d"),
            ("ADD [\"https://me:p@h/a\", \"/d\"]", "ADD [\"https://xxxxx:xxxxx@h/a\", \"/d\"]"),
            ("ADD https://token@h/a.git /d", "ADD https://xxxxx@h/a.git /d"),
            ("ssh://git@h/a http://h/b@c:d", "ssh://git@h/a http://h/b@c:d"),
            ("http://h/a?v=2&X-Amz-Signature=abc&token=t x", "http://h/a?v=2&X-Amz-Signature=xxxxx&token=xxxxx x"),
            ("http://a:b@h\nhttp://c:d@i/", "http://xxxxx:xxxxx@h\nhttp://xxxxx:xxxxx@i/"),
        ] {
            assert_eq!(addresses(text), want);
        }
    }
}
