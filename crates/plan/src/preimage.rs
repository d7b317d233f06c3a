//! What a step's key is made of, in a form that people can read and by which two builds can be compared.
//!
//! An op in; named fields out, one for everything that [`crate::key`] takes in, and nothing else: a moved line, or a
//! stage with another number, is no difference here either. Contents of what a step reads are not in an op: the caller
//! knows them. Values of variables with telling names, and credentials in commands and addresses, are hidden: a hidden
//! value tells nothing, not even whether it changed.

use serde::{Deserialize, Serialize};

use kuz_image::Digest;

use crate::plan::{Copy, Inline, MakeDir, Mount, Network, Op, Run, Sharing, Source, Word};
use crate::redact;

/// A longer value is cut here, and its digest stands for the rest: scripts can be as long as a Dockerfile.
const VALUE_BYTES: usize = 4096;
/// What stands in a secret's place.
pub const STARS: &str = "***";
/// Words in a name that say its value is not for everybody's eyes.
const TELLING: [&str; 9] = ["apikey", "auth", "credential", "key", "password", "passwd", "pword", "secret", "token"];
/// What live tokens of widely used services begin with.
const TOKENS: [&str; 10] =
    ["ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "AKIA", "npm_", "pypi-AgEI"];
/// A shorter word is a mention of such a beginning, not a token.
const TOKEN_BYTES: usize = 16;
/// A shorter value of a secret variable is not looked for in other fields: it would tear ordinary words apart.
const SHORTEST: usize = 4;

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    /// What is asked for: an instruction's command line, sources and destination.
    Command,
    /// A variable that a RUN sees.
    Variable,
    /// Anything else.
    Setting,
}

/// One thing that a key takes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// What it is.
    pub kind: FieldKind,
    /// Its name for people; a variable's own.
    pub name: String,
    /// Its value; `None`: hidden.
    pub value: Option<String>,
}

/// Whether a variable's name says that its value is a secret.
pub fn is_telling(name: &str) -> bool {
    let name = name.to_lowercase();
    TELLING.iter().any(|word| name.contains(word)) && !name.contains("public")
}

/// Everything in an op that its key takes in, in a fixed order. Nothing for an op that does nothing.
pub fn fields(op: &Op) -> Vec<Field> {
    let mut list = Fields::default();
    match op {
        Op::Run(run) => list.run(run),
        Op::Copy(copy) => list.copy("COPY", copy),
        Op::Add(copy) => list.copy("ADD", copy),
        Op::MakeDir(MakeDir { path, user }) => {
            list.command("instruction", "WORKDIR");
            list.command("path", path);
            list.setting("user", user);
        }
        Op::Nothing => {}
    }
    list.fields
}

/// A line of a Dockerfile without what looks like a secret in it.
pub fn line(text: &str) -> String {
    let mut words = text.split_whitespace();
    // `ENV NAME value`, the old form.
    if let (Some(verb), Some(name), Some(_)) = (words.next(), words.next(), words.next())
        && verb.eq_ignore_ascii_case("ENV")
        && !name.contains('=')
        && is_telling(name)
    {
        return format!("{verb} {name} {STARS}");
    }
    mask(text, &[])
}

#[derive(Default)]
struct Fields {
    fields: Vec<Field>,
    /// Values that no field may show.
    hidden: Vec<String>,
}

impl Fields {
    fn push(&mut self, kind: FieldKind, name: &str, value: &str) {
        let value = mask(value, &self.hidden);
        self.fields.push(Field { kind, name: name.to_owned(), value: Some(cut(value)) });
    }

    fn command(&mut self, name: &str, value: &str) {
        self.push(FieldKind::Command, name, value);
    }

    fn setting(&mut self, name: &str, value: &str) {
        self.push(FieldKind::Setting, name, value);
    }

    fn flag(&mut self, name: &str, given: bool) {
        if given {
            self.setting(name, "yes");
        }
    }

    fn run(&mut self, run: &Run) {
        let Run { argv, env, proxies: _, cwd, user, network, scripts, mounts, insecure } = run;
        let secrets = env.iter().filter(|(name, value)| is_telling(name) && value.len() >= SHORTEST);
        self.hidden = secrets.map(|(_, value)| value.to_owned()).collect();
        self.hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        self.command("instruction", "RUN");
        match argv.as_slice() {
            [shell, flag, command] if flag == "-c" => {
                self.command("command", command);
                self.setting("shell", &format!("{shell} -c"));
            }
            _ => self.command("command", &list(argv)),
        }
        self.inline("script", scripts);
        for (name, value) in env.iter() {
            if is_telling(name) {
                self.fields.push(Field { kind: FieldKind::Variable, name: name.to_owned(), value: None });
            } else {
                self.push(FieldKind::Variable, name, value);
            }
        }
        for (number, mount) in (1..).zip(mounts) {
            self.setting(&format!("mount {number}"), &mount_text(mount));
        }
        self.setting("working directory", cwd);
        self.setting("user", user);
        self.setting("network", if *network == Network::None { "none" } else { "host" });
        self.flag("insecure", *insecure);
        let names: Vec<&str> = env.iter().map(|(name, _)| name).collect();
        self.setting("order of variables", &names.join(" "));
    }

    fn copy(&mut self, verb: &str, copy: &Copy) {
        let Copy { from, sources, inline, dest, chown, chmod, link, parents, exclude, unpack, checksum, keep_git_dir } =
            copy;
        self.command("instruction", verb);
        self.command("source", source_kind(from));
        let words: Vec<String> = sources.iter().map(|Word { text, span: _ }| text.clone()).collect();
        self.command("sources", &list(&words));
        self.command("destination", dest);
        self.inline("inline file", inline);
        for (name, value) in [("--chown", chown), ("--chmod", chmod), ("--checksum", checksum)] {
            if let Some(value) = value {
                self.setting(name, value);
            }
        }
        if !exclude.is_empty() {
            self.setting("--exclude", &list(exclude));
        }
        if let Some(unpack) = unpack {
            self.setting("--unpack", if *unpack { "true" } else { "false" });
        }
        self.flag("--link", *link);
        self.flag("--parents", *parents);
        self.flag("--keep-git-dir", *keep_git_dir);
    }

    fn inline(&mut self, what: &str, files: &[Inline]) {
        for Inline { name, content } in files {
            self.command(&format!("{what} {name}"), content);
        }
    }
}

/// Words as JSON has them: the borders between them show.
fn list(words: &[String]) -> String {
    serde_json::to_string(words).unwrap_or_default()
}

fn cut(value: String) -> String {
    if value.len() <= VALUE_BYTES {
        return value;
    }
    let end = (0..=VALUE_BYTES).rev().find(|&at| value.is_char_boundary(at)).unwrap_or(0);
    let shown = value.get(..end).unwrap_or_default();
    format!("{shown}… ({} bytes, {})", value.len(), Digest::of(value.as_bytes()).short())
}

fn source_kind(source: &Source) -> &'static str {
    match source {
        Source::Context => "the context",
        Source::Stage(_) => "a stage",
        Source::Image(_) => "an image",
        Source::Named(_) => "a named context",
    }
}

fn mount_text(mount: &Mount) -> String {
    let place = |target: &Option<String>| target.as_ref().map(|target| format!(" target={target}")).unwrap_or_default();
    let access = |mode: u32, uid: u32, gid: u32| format!(" mode={mode:04o} uid={uid} gid={gid}");
    let word = |given: bool, word: &str| if given { format!(" {word}") } else { String::new() };
    match mount {
        Mount::Bind { from, source, target, writable } => {
            format!("bind from {} source={source} target={target}{}", source_kind(from), word(*writable, "rw"))
        }
        Mount::Cache { id, from, source, target, readonly, sharing, mode, uid, gid } => {
            let from = from.as_ref().map(|from| format!(" from {}", source_kind(from))).unwrap_or_default();
            let sharing = match sharing {
                Sharing::Shared => "shared",
                Sharing::Private => "private",
                Sharing::Locked => "locked",
            };
            let access = access(*mode, *uid, *gid);
            let readonly = word(*readonly, "ro");
            format!("cache id={id}{from} source={source} target={target} sharing={sharing}{access}{readonly}")
        }
        Mount::Tmpfs { target, size } => {
            format!("tmpfs target={target}{}", size.map(|size| format!(" size={size}")).unwrap_or_default())
        }
        Mount::Secret { id, target, env, required, mode, uid, gid } => {
            let env = env.as_ref().map(|env| format!(" env={env}")).unwrap_or_default();
            let required = word(*required, "required");
            format!("secret id={id}{}{env}{required}{}", place(target), access(*mode, *uid, *gid))
        }
        Mount::Ssh { id, target, required, mode, uid, gid } => {
            let required = word(*required, "required");
            format!("ssh id={id}{}{required}{}", place(target), access(*mode, *uid, *gid))
        }
    }
}

/// A text without these values, credentials of addresses, values of telling names and tokens.
fn mask(text: &str, hidden: &[String]) -> String {
    let mut text = redact::addresses(text).into_owned();
    for value in hidden.iter().filter(|value| text.contains(value.as_str())).collect::<Vec<_>>() {
        text = text.replace(value.as_str(), STARS);
    }
    assignments(&tokens(&text))
}

/// Hides words that begin as live tokens do.
fn tokens(text: &str) -> String {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_inside(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let token = word.len() >= TOKEN_BYTES && TOKENS.iter().any(|start| word.starts_with(start));
        shown.push_str(if token { STARS } else { word });
        let other = behind.find(is_inside).unwrap_or(behind.len());
        shown.push_str(behind.get(..other).unwrap_or_default());
        rest = behind.get(other..).unwrap_or_default();
    }
    shown
}

/// Hides the value of `NAME=value` where the name is telling, and what follows `Bearer`. A variable's mention stays.
fn assignments(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, bearer)) = next_assignment(rest) {
        let (before, after) = rest.split_at(at);
        shown.push_str(before);
        let telling = bearer || is_telling(name_before(before));
        let (open, value) = match after.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                (1, after.get(1..).and_then(|inner| inner.find(quote)).unwrap_or(after.len() - 1))
            }
            _ => (
                0,
                after
                    .find(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '"' | '\''))
                    .unwrap_or(after.len()),
            ),
        };
        let inner = after.get(open..open + value).unwrap_or_default();
        if telling && !inner.is_empty() && !inner.starts_with('$') {
            shown.push_str(after.get(..open).unwrap_or_default());
            shown.push_str(STARS);
            rest = after.get(open + value..).unwrap_or_default();
        } else {
            rest = after;
        }
    }
    shown.push_str(rest);
    shown
}

/// Where the next value begins: behind a `=`, or behind `Bearer `.
fn next_assignment(text: &str) -> Option<(usize, bool)> {
    const BEARER: &str = "bearer ";
    let equals = text.find('=').map(|at| (at + 1, false));
    let lower = text.to_ascii_lowercase();
    let bearer = lower.find(BEARER).map(|at| (at + BEARER.len(), true));
    match (equals, bearer) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn name_before(text: &str) -> &str {
    let name = text.strip_suffix('=').unwrap_or_default();
    let start = name.rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))).map_or(0, |at| at + 1);
    name.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_do_not_show_secrets() {
        for (text, want) in [
            ("RUN make", "RUN make"),
            ("ENV API_TOKEN=abc OTHER=1", "ENV API_TOKEN=*** OTHER=1"),
            ("ENV API_TOKEN \"a b\"", "ENV API_TOKEN ***"),
            ("ENV PATH /a/token/b", "ENV PATH /a/token/b"),
            ("ARG PASSWORD='x y' A=b", "ARG PASSWORD='***' A=b"),
            ("RUN PGPASSWORD=hunter2 psql; echo", "RUN PGPASSWORD=*** psql; echo"),
            ("RUN curl --token=$TOKEN x", "RUN curl --token=$TOKEN x"),
            ("RUN curl -H 'Authorization: Bearer abc.def' x", "RUN curl -H 'Authorization: Bearer ***' x"),
            ("RUN curl -H \"Authorization: Bearer $T\" x", "RUN curl -H \"Authorization: Bearer $T\" x"),
            ("RUN git clone https://me:pw@h/r", "RUN git clone https://xxxxx:xxxxx@h/r"),
            ("RUN x ghp_0123456789abcdefghij y", "RUN x *** y"),
            ("RUN echo ghp_ a=b c==d", "RUN echo ghp_ a=b c==d"),
            ("ENV KEY=", "ENV KEY="),
            ("RUN KEY=\"unclosed", "RUN KEY=\"***"),
        ] {
            assert_eq!(line(text), want);
        }
    }

    #[test]
    fn long_values_are_cut_and_still_told_apart() {
        let (one, other) = ("a".repeat(VALUE_BYTES + 1), format!("{}b", "a".repeat(VALUE_BYTES)));
        assert_ne!(cut(one.clone()), cut(other));
        assert!(cut("ä".repeat(VALUE_BYTES)).len() < VALUE_BYTES + 100);
        assert_eq!(cut(one.clone()), cut(one));
    }
}
