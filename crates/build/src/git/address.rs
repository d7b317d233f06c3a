//! The address of a repository as a Dockerfile or command line has it: a word to a [`GitSource`].
//!
//! `https://host/path.git#ref:subdir`, the same with `?ref=…&subdir=…`, `ssh://`, `git://`, `user@host:path`. Only what
//! is known to be harmless passes: nothing that git could take for an option, a pattern or another protocol. Asks
//! nobody.

use base64::Engine as _;
use kuz_registry::download::decode;

/// A repository, and what of it is meant.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the address")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct GitSource {
    /// For git: without name and password where these go by a header.
    pub(crate) url: String,
    /// Branch, tag or commit.
    pub(crate) reference: Option<String>,
    /// A directory in it.
    pub(crate) subdir: Option<String>,
    /// The beginning of the commit that it must be.
    pub(crate) checksum: Option<String>,
    /// `.git` is kept.
    pub(crate) keep_git_dir: bool,
    /// Its submodules are fetched too.
    pub(crate) submodules: bool,
    /// Files have the time of the checkout, not the commit's.
    pub(crate) checkout_time: bool,
    /// The commit is fetched by its name alone, whatever the server says about branches.
    by_commit: bool,
    protocol: Protocol,
    /// `name:password`
    credentials: Option<String>,
}

impl std::fmt::Debug for GitSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GitSource").field(&self.shown()).finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Https,
    Http,
    Ssh,
    Git,
}

/// Why a word is no repository's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// A part with characters that it cannot have.
    #[error("its {part} `{}` is none", text.escape_debug())]
    Part {
        /// Which.
        part: &'static str,
        /// As written.
        text: String,
    },
    /// A part that may show credentials.
    #[error("its name or password has characters that they cannot have")]
    Credentials,
    /// A query that is not known, or its value.
    #[error("{0}")]
    Query(String),
}

impl GitSource {
    /// Whether ADD takes this word for a repository.
    pub(crate) fn is_meant(word: &str) -> bool {
        kuz_plan::is_git(word)
    }

    /// Reads a word.
    pub(crate) fn parse(word: &str) -> Result<Self, AddressError> {
        let (rest, fragment) = word.split_once('#').map_or((word, None), |(rest, fragment)| (rest, Some(fragment)));
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let mut source = locate(rest)?;
        if let Some(fragment) = fragment {
            let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
            source.reference = (!reference.is_empty()).then(|| reference.to_owned());
            source.subdir = (!subdir.is_empty()).then(|| subdir.to_owned());
        }
        for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
            source.take(pair)?;
        }
        let whole = source.checksum.clone().filter(|commit| matches!(commit.len(), 40 | 64));
        if source.by_commit && whole.is_none() {
            return Err(AddressError::Query("fetch-by-commit requires a full commit as the checksum".to_owned()));
        }
        if source.reference.is_none() || source.by_commit {
            // A commit that is named as a checksum alone is the one that is meant.
            source.reference = whole.or(source.reference);
        }
        source.check()
    }

    /// One `name=value` of the query.
    fn take(&mut self, pair: &str) -> Result<(), AddressError> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = String::from_utf8_lossy(&decode(value)).into_owned();
        let flag = |value: &str| match value {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(AddressError::Query(format!("invalid {name} value: `{}`", value.escape_debug()))),
        };
        let set = |slot: &mut Option<String>, what: &str, value: String| match slot {
            Some(known) if *known != value => Err(AddressError::Query(format!(
                "{what} conflicts: `{}` and `{}`",
                known.escape_debug(),
                value.escape_debug()
            ))),
            _ => {
                *slot = Some(value);
                Ok(())
            }
        };
        let full = |prefix: &str| if value.starts_with(prefix) { value.clone() } else { format!("{prefix}{value}") };
        if value.is_empty() && !matches!(name, "submodules" | "keep-git-dir" | "fetch-by-commit") {
            return Err(AddressError::Query(format!("query `{}` has no value", name.escape_debug())));
        }
        match name {
            "ref" => set(&mut self.reference, "ref", value),
            "tag" => set(&mut self.reference, "ref", full("refs/tags/")),
            "branch" => set(&mut self.reference, "ref", full("refs/heads/")),
            "subdir" => set(&mut self.subdir, "subdir", value),
            "checksum" | "commit" => set(&mut self.checksum, "checksum", value),
            "keep-git-dir" => flag(&value).map(|keep| self.keep_git_dir = keep),
            "submodules" => flag(&value).map(|fetch| self.submodules = fetch),
            "fetch-by-commit" => flag(&value).map(|alone| self.by_commit = alone),
            "mtime" if matches!(value.as_str(), "commit" | "checkout") => {
                self.checkout_time = value == "checkout";
                Ok(())
            }
            "mtime" => Err(AddressError::Query(format!(
                "invalid mtime value: `{}` (want checkout or commit)",
                value.escape_debug()
            ))),
            other => Err(AddressError::Query(format!("unexpected query `{}`", other.escape_debug()))),
        }
    }

    fn check(self) -> Result<Self, AddressError> {
        let bad = |part, text: &str| Err(AddressError::Part { part, text: text.to_owned() });
        match &self {
            Self { reference: Some(name), .. } if !is_reference(name) => bad("branch, tag or commit", name),
            Self { subdir: Some(path), .. } if !is_subdir(path) => bad("subdirectory", path),
            Self { checksum: Some(sum), .. } if !is_checksum(sum) => bad("checksum", sum),
            _ => Ok(self),
        }
    }

    /// For messages.
    pub(crate) fn shown(&self) -> &str {
        &self.url
    }

    /// `https://host:port/`
    fn origin(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("https", &self.url));
        format!("{scheme}://{}/", rest.split('/').next().unwrap_or_default())
    }

    /// The host with its port, where a header can be shown to it.
    pub(super) fn web_host(&self) -> Option<&str> {
        let web = matches!(self.protocol, Protocol::Https | Protocol::Http);
        self.url.split_once("://").filter(|_| web)?.1.split('/').next()
    }

    /// The addresses that are shown credentials of this kind, as git's settings name them. What the address itself
    /// holds is for its host; what was passed on is for this repository, and for all of GitHub's where it's one of
    /// those, as in BuildKit.
    pub(super) fn scope(&self, passed_on: bool) -> String {
        let origin = self.origin();
        let shared = matches!(origin.as_str(), "https://github.com/" | "https://www.github.com/");
        if passed_on && !shared { self.url.clone() } else { origin }
    }

    /// The value of the header that carries the address's name and password.
    pub(super) fn authorization(&self) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials)))
    }

    /// The protocols that git may speak: the address's own, and https where submodules or a redirect lead to it.
    pub(super) fn protocols(&self) -> &'static [&'static str] {
        match self.protocol {
            Protocol::Https => &["https"],
            Protocol::Http => &["http", "https"],
            Protocol::Ssh => &["ssh", "https"],
            Protocol::Git => &["git", "https"],
        }
    }

    /// A text without the credentials.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.credentials.iter().flat_map(|pair| pair.split(':').skip(1).chain([pair.as_str()])) {
            if !secret.is_empty() {
                text = text.replace(secret, "***");
            }
        }
        text
    }
}

/// Scheme, host and path.
fn locate(text: &str) -> Result<GitSource, AddressError> {
    let bad = |part, text: &str| AddressError::Part { part, text: text.to_owned() };
    let source = |url, protocol, credentials| GitSource {
        url,
        reference: None,
        subdir: None,
        checksum: None,
        keep_git_dir: false,
        submodules: false,
        checkout_time: false,
        by_commit: false,
        protocol,
        credentials,
    };
    let text =
        text.strip_prefix("github.com/").map_or_else(|| text.to_owned(), |path| format!("https://github.com/{path}"));
    let Some((scheme, rest)) = text.split_once("://") else {
        let scp = text.split_once(':').and_then(|(user_host, path)| Some((user_host.split_once('@')?, path)));
        let ((user, host), path) = scp.ok_or_else(|| bad("address", "…"))?;
        if !is_name(user) || !is_host(host) || !is_path(path) {
            return Err(AddressError::Credentials);
        }
        return Ok(source(text, Protocol::Ssh, None));
    };
    let protocol = match scheme {
        "https" => Protocol::Https,
        "http" => Protocol::Http,
        "ssh" => Protocol::Ssh,
        "git" => Protocol::Git,
        other => return Err(bad("scheme", other)),
    };
    let (authority, path) = rest.split_once('/').ok_or_else(|| bad("path", ""))?;
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let (name, port) = match host.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    if !is_host(name) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(bad("host", host));
    }
    if !is_path(path) {
        return Err(bad("path", path));
    }
    match (protocol, user) {
        (_, None) => Ok(source(text.clone(), protocol, None)),
        (Protocol::Https | Protocol::Http, Some(user)) => {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let pair = [decode(name), b":".to_vec(), decode(password)].concat();
            let pair = String::from_utf8(pair).ok().filter(|pair| !pair.contains(char::is_control));
            let pair = pair.ok_or(AddressError::Credentials)?;
            Ok(source(format!("{scheme}://{host}/{path}"), protocol, Some(pair)))
        }
        (Protocol::Ssh, Some(user)) if is_name(user) => Ok(source(text.clone(), protocol, None)),
        _ => Err(AddressError::Credentials),
    }
}

fn is_name(text: &str) -> bool {
    let first = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
    first && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|six| six.parse::<std::net::Ipv6Addr>().is_ok()),
        None => is_name(text),
    }
}

fn is_path(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/%+@:,=".contains(&byte);
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(allowed)
}

/// What `git check-ref-format` allows, and less.
fn is_reference(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/+@".contains(&byte);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.strip_suffix(".lock").is_none();
    text.bytes().all(allowed)
        && text.split('/').all(part)
        && !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains("..")
        && text != "@"
}

fn is_subdir(text: &str) -> bool {
    !text.contains(char::is_control) && !text.split('/').any(|part| part == "..") && !text.starts_with('-')
}

/// The beginning of a commit's name.
pub(crate) fn is_checksum(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let commit = "0123456789012345678901234567890123456789";
        for (word, url, reference, subdir) in [
            ("https://h/a.git", "https://h/a.git", None, None),
            ("https://h/a.git#v1", "https://h/a.git", Some("v1"), None),
            ("https://h:81/a.git#v1:sub/dir", "https://h:81/a.git", Some("v1"), Some("sub/dir")),
            ("https://h/a.git#:sub", "https://h/a.git", None, Some("sub")),
            ("https://h/a.git?ref=v1&subdir=s%20t", "https://h/a.git", Some("v1"), Some("s t")),
            ("https://h/a.git?tag=v1", "https://h/a.git", Some("refs/tags/v1"), None),
            ("https://h/a.git?branch=b", "https://h/a.git", Some("refs/heads/b"), None),
            (&format!("https://h/a.git?commit={commit}"), "https://h/a.git", Some(commit), None),
            ("git@h:a/b", "git@h:a/b", None, None),
            ("ssh://git@h:22/a.git", "ssh://git@h:22/a.git", None, None),
            ("https://me:pass@h/a.git", "https://h/a.git", None, None),
            ("github.com/a/b", "https://github.com/a/b", None, None),
        ] {
            let source = GitSource::parse(word).unwrap();
            let got = (source.url.as_str(), source.reference.as_deref(), source.subdir.as_deref());
            assert_eq!(got, (url, reference, subdir), "{word}");
        }
        let source = GitSource::parse("https://h/a.git?submodules&keep-git-dir=1&checksum=abcdef0").unwrap();
        assert!(source.submodules && source.keep_git_dir && source.checksum.as_deref() == Some("abcdef0"));
        let plain = GitSource::parse("https://h/a.git").unwrap();
        assert!(!plain.submodules && !plain.checkout_time);
        assert!(GitSource::parse("https://h/a.git?mtime=checkout").unwrap().checkout_time);
        let by_commit = format!("https://h/a.git?branch=b&fetch-by-commit&commit={commit}");
        assert_eq!(GitSource::parse(&by_commit).unwrap().reference.as_deref(), Some(commit));
    }

    #[test]
    fn hostile_addresses_are_refused() {
        for word in [
            "--upload-pack=x",
            "ext::sh -c x",
            "file:///etc",
            "https://-h/a.git",
            "https://h/-a.git#--x",
            "https://h/a.git#-x",
            "https://h/a.git#a..b",
            "https://h/a.git#a*",
            "https://h/a.git#refs/heads/x.lock",
            "https://h/a.git#v1:../x",
            "https://h/a.git#v1:a/../../x",
            "https://h/a.git?subdir=a%2f..%2f..",
            "https://h/a.git?x=1",
            "https://h/a.git?ref=a&tag=b",
            "https://h/a.git?ref=",
            "https://h/a.git?submodules=maybe",
            "https://h/a.git?checksum=xyz",
            "https://h/a.git?mtime=now",
            "https://h/a.git?fetch-by-commit&checksum=abcdef0",
            "https://h/a.git?tag=a&branch=a",
            "https://h/a b.git",
            "https://h/a\r.git",
            "https://u:p%0a@h/a.git",
            "ssh://-oProxyCommand=x@h/a",
            "ssh://-oProxyCommand=x/a",
            "git@-oProxyCommand=x:a",
            "git@h:-a",
            "https://h",
        ] {
            assert!(GitSource::parse(word).is_err(), "{word}");
        }
    }

    #[test]
    fn credentials_are_never_shown() {
        let source = GitSource::parse("https://me:canary%21@h/a.git#v1").unwrap();
        assert_eq!(source.authorization().as_deref(), Some("Basic bWU6Y2FuYXJ5IQ=="));
        assert_eq!(source.scrub("fatal: canary! and me:canary!"), "fatal: *** and me:***");
        assert!(!format!("{source:?} {}", source.shown()).contains("canary"));
        assert_eq!((source.scope(false).as_str(), source.scope(true).as_str()), ("https://h/", "https://h/a.git"));
        let forge = GitSource::parse("https://github.com/a/b.git").unwrap();
        assert_eq!((forge.scope(true).as_str(), forge.web_host()), ("https://github.com/", Some("github.com")));
        assert_eq!(GitSource::parse("ssh://git@h/a.git").unwrap().web_host(), None);
    }

    #[test]
    fn words_are_taken_for_repositories_as_the_plan_takes_them() {
        for (word, meant) in [
            ("a.git", false),
            ("http://h/a", false),
            ("https://h/a.git", true),
            ("https://h/a.git?ref=v1", true),
            ("https://h/a?x=.git", false),
            ("git@h:a/b", true),
            ("deploy@h:a/b", true),
            ("git://h/a", true),
            ("ssh://h/a", true),
        ] {
            assert_eq!(GitSource::is_meant(word), meant, "{word}");
        }
    }
}
