//! Cache keys: what a step does and what it reads, to one digest.
//!
//! ```text
//!   key = sha256( domain · parent · op, field by field · inputs )
//! ```
//!
//! Every piece is tagged or has its length in front, so that no two different steps come to the same bytes. Every
//! struct is taken apart without `..`: a new field does not compile until somebody has decided here.
//!
//! Not in the key, on purpose: spans and texts (a moved line is the same step), proxies and the values of secrets
//! (they must not change what is built), which stage or image a source is (its content is among the inputs). The
//! caller adds as inputs what the plan can't know: contents, resolved owners, `SOURCE_DATE_EPOCH`.

use std::fmt;

use kuz_image::{Digest, Hasher};

use crate::plan::{Copy, Inline, MakeDir, Mount, Network, Op, Run, Sharing, Source, Word};

/// Changes whenever the encoding or what a step does to files changes: old records are then never hit.
const DOMAIN: &str = "kuz step key 1";

/// What a step's result is recorded under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(Digest);

impl CacheKey {
    /// 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        self.0.hex()
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The key of a step that is done on top of `parent`.
///
/// `inputs` are digests of what the step reads, by order: one for each of [`reads`], then whatever else the caller
/// knows to matter. For a `--link` that is carried out independently of what is below, `parent` is a constant.
pub fn cache_key(parent: &Digest, op: &Op, inputs: &[Digest]) -> CacheKey {
    let mut key = Key(Hasher::default());
    key.text(DOMAIN);
    key.text(&parent.to_string());
    key.op(op);
    key.list(inputs, |key, input| key.text(&input.to_string()));
    CacheKey(key.0.finish())
}

/// The sources that a step reads files from, in the order in which `inputs` of [`cache_key`] has their digests: that
/// of a COPY or ADD, or those of the bind and cache mounts of a RUN.
pub fn reads(op: &Op) -> Vec<&Source> {
    match op {
        Op::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| match mount {
                Mount::Bind { from, .. } => Some(from),
                Mount::Cache { from, .. } => from.as_ref(),
                Mount::Tmpfs { .. } | Mount::Secret { .. } | Mount::Ssh { .. } => None,
            })
            .collect(),
        Op::Copy(copy) | Op::Add(copy) => vec![&copy.from],
        Op::MakeDir(_) | Op::Nothing => Vec::new(),
    }
}

struct Key(Hasher);

impl Key {
    fn tag(&mut self, tag: u8) {
        self.0.update(&[tag]);
    }

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.tag(u8::from(flag));
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn option<T>(&mut self, option: Option<T>, some: impl FnOnce(&mut Self, T)) {
        match option {
            None => self.tag(0),
            Some(value) => {
                self.tag(1);
                some(self, value);
            }
        }
    }

    fn list<T>(&mut self, list: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.number(list.len() as u64);
        for item in list {
            each(self, item);
        }
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Run(run) => {
                self.tag(1);
                self.run(run);
            }
            Op::Copy(copy) => {
                self.tag(2);
                self.copy(copy);
            }
            Op::Add(copy) => {
                self.tag(3);
                self.copy(copy);
            }
            Op::MakeDir(MakeDir { path, user }) => {
                self.tag(4);
                self.text(path);
                self.text(user);
            }
            Op::Nothing => self.tag(5),
        }
    }

    fn run(&mut self, run: &Run) {
        let Run { argv, env, proxies: _, cwd, user, network, scripts, mounts, insecure } = run;
        self.list(argv, |key, word| key.text(word));
        let env: Vec<(&str, &str)> = env.iter().collect();
        self.list(&env, |key, (name, value)| {
            key.text(name);
            key.text(value);
        });
        self.text(cwd);
        self.text(user);
        self.tag(match network {
            Network::Host => 1,
            Network::None => 2,
        });
        self.list(scripts, Self::inline);
        self.list(mounts, Self::mount);
        self.flag(*insecure);
    }

    fn copy(&mut self, copy: &Copy) {
        let Copy { from, sources, inline, dest, chown, chmod, link, parents, exclude, unpack, checksum, keep_git_dir } =
            copy;
        self.source(from);
        self.list(sources, |key, Word { text, span: _ }| key.text(text));
        self.list(inline, Self::inline);
        self.text(dest);
        self.option(chown.as_deref(), Self::text);
        self.option(chmod.as_deref(), Self::text);
        self.flag(*link);
        self.flag(*parents);
        self.list(exclude, |key, pattern| key.text(pattern));
        self.option(*unpack, Self::flag);
        self.option(checksum.as_deref(), Self::text);
        self.flag(*keep_git_dir);
    }

    fn inline(&mut self, file: &Inline) {
        let Inline { name, content } = file;
        self.text(name);
        self.text(content);
    }

    /// Its kind alone: what it holds is among the inputs, so that a rebuilt stage with the same files is a hit.
    fn source(&mut self, source: &Source) {
        self.tag(match source {
            Source::Context => 1,
            Source::Stage(_) => 2,
            Source::Image(_) => 3,
            Source::Named(_) => 4,
        });
    }

    fn mount(&mut self, mount: &Mount) {
        match mount {
            Mount::Bind { from, source, target, writable } => {
                self.tag(1);
                self.source(from);
                self.text(source);
                self.text(target);
                self.flag(*writable);
            }
            Mount::Cache { id, from, source, target, readonly, sharing, mode, uid, gid } => {
                self.tag(2);
                self.text(id);
                self.option(from.as_ref(), Self::source);
                self.text(source);
                self.text(target);
                self.flag(*readonly);
                self.tag(match sharing {
                    Sharing::Shared => 1,
                    Sharing::Private => 2,
                    Sharing::Locked => 3,
                });
                self.access(*mode, *uid, *gid);
            }
            Mount::Tmpfs { target, size } => {
                self.tag(3);
                self.text(target);
                self.option(*size, Self::number);
            }
            Mount::Secret { id, target, env, required, mode, uid, gid } => {
                self.tag(4);
                self.text(id);
                self.option(target.as_deref(), Self::text);
                self.option(env.as_deref(), Self::text);
                self.flag(*required);
                self.access(*mode, *uid, *gid);
            }
            Mount::Ssh { id, target, required, mode, uid, gid } => {
                self.tag(5);
                self.text(id);
                self.option(target.as_deref(), Self::text);
                self.flag(*required);
                self.access(*mode, *uid, *gid);
            }
        }
    }

    fn access(&mut self, mode: u32, uid: u32, gid: u32) {
        for number in [mode, uid, gid] {
            self.number(number.into());
        }
    }
}
