//! `RUN --mount`: options with their variables replaced, to typed [`Mount`]s with every default filled in.
//!
//! The names of options and their defaults are those of the Dockerfile reference. Nothing is looked up: a secret's
//! value or a cache's place are the executor's.

use kuz_dockerfile::ast::{self, Word};
use kuz_dockerfile::{Diagnostic, Span, suggest};

use crate::path;
use crate::plan::{ImageSource, Mount, Sharing, Source};
use crate::steps::Lowering;

/// Every option that some type of mount takes.
const OPTIONS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];
const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARING: [&str; 3] = ["shared", "private", "locked"];

/// The options as they were given.
#[derive(Debug, Default)]
struct Options {
    kind: String,
    from: String,
    source: String,
    target: String,
    readonly: Option<bool>,
    size: Option<u64>,
    id: String,
    sharing: Option<Sharing>,
    required: bool,
    env: Option<String>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Lowering<'_> {
    pub(crate) fn mounts(&mut self, mounts: &[ast::Mount]) -> Result<Vec<Mount>, Diagnostic> {
        mounts.iter().map(|mount| self.mount(mount)).collect()
    }

    fn mount(&mut self, mount: &ast::Mount) -> Result<Mount, Diagnostic> {
        let error = |message: String| Diagnostic::error("InvalidMount", mount.span, message);
        let mut options = Options { kind: "bind".to_owned(), ..Options::default() };
        // What other options mean depends on the type, wherever it stands.
        let (types, others): (Vec<_>, Vec<_>) = mount.options.iter().partition(|(key, _)| key == "type");
        for (key, value) in types.into_iter().chain(others) {
            let value = match value {
                // Names of sources are never expanded.
                Some(value) if key == "from" => Some(value.clone()),
                Some(value) => Some(self.word(&Word::new(value.clone(), mount.span))?),
                None => None,
            };
            options
                .set(key, value.as_deref())
                .map_err(|message| with_suggestion(error(message), key, value.as_deref()))?;
        }
        options.check().map_err(error)?;
        self.typed(options, mount.span)
    }

    fn typed(&mut self, options: Options, span: Span) -> Result<Mount, Diagnostic> {
        let target = path::join(&self.cwd(), &options.target);
        let source = path::join("/", &options.source);
        let needs_place = matches!(options.kind.as_str(), "bind" | "cache" | "tmpfs");
        if needs_place && target == "/" {
            let error = Diagnostic::error("InvalidMount", span, "invalid mount target \"/\"");
            return Err(error.hint(if options.target.is_empty() {
                "say where it is mounted: add ,target=PATH"
            } else {
                "mount it at a directory below the root"
            }));
        }
        let (uid, gid) = (options.uid.unwrap_or(0), options.gid.unwrap_or(0));
        let given = Some(target.clone()).filter(|_| !options.target.is_empty());
        Ok(match options.kind.as_str() {
            "cache" => Mount::Cache {
                id: self.cache_id(&options),
                from: self.from(&options.from, span)?.filter(|from| *from != Source::Image(ImageSource::scratch())),
                source,
                target,
                readonly: options.readonly.unwrap_or(false),
                sharing: options.sharing.unwrap_or(Sharing::Shared),
                mode: options.mode.unwrap_or(0o755),
                uid,
                gid,
            },
            "tmpfs" => Mount::Tmpfs { target, size: options.size },
            "secret" => {
                // `source` is the older name of `id`.
                let named = if options.source.is_empty() { options.id } else { options.source };
                let id = if named.is_empty() { path::base(&target).to_owned() } else { named };
                let fallback = || format!("/run/secrets/{}", path::base(&id));
                let target = given.or_else(|| options.env.is_none().then(fallback));
                let (required, mode) = (options.required, options.mode.unwrap_or(0o400));
                Mount::Secret { id, target, env: options.env, required, mode, uid, gid }
            }
            "ssh" => {
                let id = if options.id.is_empty() { "default".to_owned() } else { options.id };
                let (required, mode) = (options.required, options.mode.unwrap_or(0o600));
                Mount::Ssh { id, target: given, required, mode, uid, gid }
            }
            _ => Mount::Bind {
                from: self.from(&options.from, span)?.unwrap_or(Source::Context),
                source,
                target,
                writable: !options.readonly.unwrap_or(true),
            },
        })
    }

    fn from(&self, name: &str, span: Span) -> Result<Option<Source>, Diagnostic> {
        (!name.is_empty()).then(|| self.source(name, self.place(span))).transpose()
    }

    /// The name of a cache (the target as written, if there's no other), in the namespace that
    /// `BUILDKIT_CACHE_MOUNT_NS` gives.
    fn cache_id(&self, options: &Options) -> String {
        let target = path::join("/", &options.target);
        let id = match options.id.as_str() {
            "" if options.target.starts_with('/') => target,
            "" => target.trim_start_matches('/').to_owned(),
            id => id.to_owned(),
        };
        match self.shared.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS") {
            Some(space) if !space.is_empty() => format!("{space}/{id}"),
            _ => id,
        }
    }
}

impl Options {
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), String> {
        let flag = |value: Option<&str>| match value {
            None | Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
            Some(other) => Err(format!("invalid value for {key}: {other}")),
        };
        match key {
            "readonly" | "ro" => self.readonly = Some(flag(value)?),
            "readwrite" | "rw" => self.readonly = Some(!flag(value)?),
            "required" if matches!(self.kind.as_str(), "secret" | "ssh") => self.required = flag(value)?,
            "size" if self.kind == "tmpfs" => self.set_value(key, value.unwrap_or_default())?,
            "required" | "size" => return Err(format!("unexpected key '{key}' for mount type '{}'", self.kind)),
            _ => {
                let Some(value) = value else {
                    return Err(format!("invalid field '{key}' must be a key=value pair"));
                };
                self.set_value(key, value)?;
            }
        }
        Ok(())
    }

    fn set_value(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = |radix| {
            let digits = value.bytes().all(|b| b.is_ascii_digit());
            u32::from_str_radix(value, radix).ok().filter(|_| digits)
        };
        let number = |radix| number(radix).ok_or_else(|| format!("invalid value {value} for {key}"));
        match key {
            "type" => {
                self.kind = value.to_ascii_lowercase();
                if !TYPES.contains(&self.kind.as_str()) {
                    return Err(format!("unsupported mount type \"{value}\""));
                }
            }
            "from" => value.clone_into(&mut self.from),
            "source" | "src" => value.clone_into(&mut self.source),
            "target" | "dst" | "destination" => value.clone_into(&mut self.target),
            "id" => value.clone_into(&mut self.id),
            "env" => self.env = Some(value.to_owned()),
            "size" => self.size = Some(bytes(value).ok_or_else(|| format!("invalid value for size: {value}"))?),
            "sharing" => {
                self.sharing = Some(match value.to_ascii_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => return Err(format!("unsupported sharing value \"{value}\"")),
                });
            }
            "mode" => self.mode = Some(number(8)?),
            "uid" => self.uid = Some(number(10)?),
            "gid" => self.gid = Some(number(10)?),
            _ => return Err(format!("unexpected key '{key}' in '{key}={value}'")),
        }
        Ok(())
    }

    /// What does not go together.
    fn check(&self) -> Result<(), String> {
        let kind = self.kind.as_str();
        if matches!(kind, "bind" | "tmpfs") {
            for (name, given) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
                if given.is_some() {
                    return Err(format!("{name} not allowed for \"{kind}\" type mounts"));
                }
            }
        }
        if self.sharing.is_some() && kind != "cache" {
            return Err(format!("invalid cache sharing set for {kind} mount"));
        }
        match kind {
            "secret" if !self.from.is_empty() => Err("secret mount should not have a from".to_owned()),
            "secret" if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() => {
                Err("invalid secret mount. one of source, target required".to_owned())
            }
            "secret" if !self.source.is_empty() && !self.id.is_empty() => {
                Err("both source and id can't be set".to_owned())
            }
            "ssh" if !self.source.is_empty() => Err("ssh does not support source".to_owned()),
            _ => Ok(()),
        }
    }
}

fn with_suggestion(error: Diagnostic, key: &str, value: Option<&str>) -> Diagnostic {
    let near = match (key, value) {
        ("type", Some(value)) => suggest::nearest(value, TYPES),
        ("sharing", Some(value)) => suggest::nearest(value, SHARING),
        _ => suggest::nearest(key, OPTIONS),
    };
    match near {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error,
    }
}

/// `1g`, `512MiB`, `1.5k`: units of 1024, as Docker counts memory.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let shift = match unit.trim_start().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    // Nine places are exact enough for a size, and cannot overflow.
    let places: String = fraction.chars().take(9).collect();
    if places.contains('.') || fraction.contains('.') {
        return None;
    }
    let part = if places.is_empty() { 0 } else { places.parse::<u128>().ok()? };
    let power = u32::try_from(places.len()).ok()?;
    whole.checked_add(u64::try_from((part << shift) / 10u128.pow(power)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, want) in [
            ("1024", Some(1024)),
            ("1k", Some(1024)),
            ("1.5k", Some(1536)),
            ("512MiB", Some(512 << 20)),
            ("2 gb", Some(2 << 30)),
            ("1b", Some(1)),
            ("", None),
            ("x", None),
            ("1.2.3k", None),
            ("-1", None),
            ("99999999999p", None),
        ] {
            assert_eq!(bytes(text), want, "{text}");
        }
    }
}
