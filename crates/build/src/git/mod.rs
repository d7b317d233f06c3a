//! Repositories as sources of files: an address as written, to a commit, to a checkout.
//!
//! [`GitSource`] is what a word says, [`Revision`] the commit that it means now, [`Checkout`] its files. The user's own
//! `git` does the work ([`run`]); this module says what is fetched and what may be used of it.

mod address;
mod run;

use std::path::PathBuf;

use kuz_rootfs::{GuestPath, Root};

pub(crate) use address::{GitSource, is_checksum};
use run::Git;

use crate::error::BuildError;
use crate::scratch::Scratch;
use crate::session::Session;

/// A commit of a repository.
#[derive(Debug, Clone)]
pub(crate) struct Revision {
    source: GitSource,
    /// In full.
    commit: String,
    /// The name that led to it, in full (`refs/heads/main`); none where the commit itself was named.
    name: Option<String>,
}

/// The files of a commit.
#[derive(Debug)]
pub(crate) struct Checkout {
    /// Keeps the files.
    pub(crate) scratch: Scratch,
    /// The directory that was asked for.
    pub(crate) path: PathBuf,
    /// When the commit was made.
    pub(crate) time: i64,
    /// The time of its files, unless they keep that of the checkout.
    pub(crate) mtime: Option<i64>,
}

impl Revision {
    /// Asks what a source means now. `checksum` is the beginning of the commit that it must be.
    pub(crate) fn find(session: &Session<'_>, source: &GitSource, checksum: Option<&str>) -> Result<Self, BuildError> {
        let expected = checksum.or(source.checksum.as_deref()).map(str::to_ascii_lowercase);
        let advertised = match source.reference.as_deref() {
            Some(commit) if is_commit(commit) => {
                let commit = commit.to_ascii_lowercase();
                Advertised { object: commit.clone(), commit, name: None }
            }
            reference => advertised(session, source, reference.unwrap_or("HEAD"))?,
        };
        let Advertised { object, commit, name } = advertised;
        match expected {
            // As in BuildKit, an annotated tag's own name is as good.
            Some(expected) if !commit.starts_with(&expected) && !object.starts_with(&expected) => {
                Err(BuildError::Refused {
                    action: format!("verify git repository `{}`", source.shown()),
                    source: format!("expected checksum to match {expected}, got {commit}").into(),
                })
            }
            _ => Ok(Self { source: source.clone(), commit, name }),
        }
    }

    /// What stands for the files.
    pub(crate) fn digest(&self) -> blake3::Hash {
        let GitSource { subdir, keep_git_dir, submodules, .. } = &self.source;
        let subdir = subdir.as_deref().unwrap_or_default();
        blake3::hash(format!("git {} {keep_git_dir} {submodules} {subdir}", self.commit).as_bytes())
    }

    /// Fetches the files.
    pub(crate) fn check_out(&self, session: &Session<'_>) -> Result<Checkout, BuildError> {
        let scratch = Scratch::new(&session.machine.store)
            .map_err(|error| BuildError::store("make a directory for a git repository", error))?;
        let tree = scratch.path().join("tree");
        std::fs::create_dir(&tree)
            .map_err(|error| BuildError::store("make a directory for a git repository", error))?;
        let git = Git::new(session, &self.source, &tree)?;
        git.run(&["init", "--quiet", "--template=", "."])?;
        self.fetch(&git)?;
        git.run(&["checkout", "--quiet", "--detach", &self.commit])?;
        if self.source.submodules {
            // Servers without shallow fetches give everything or nothing.
            let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
            if git.run(&[&update[..], &["--depth=1"]].concat()).is_err() {
                git.run(&update)?;
            }
        }
        let time = git.run(&["log", "-1", "--format=%ct", &self.commit])?.trim().parse().unwrap_or_default();
        if !self.source.keep_git_dir {
            std::fs::remove_dir_all(tree.join(".git"))
                .map_err(|error| BuildError::store("remove a repository's .git", error))?;
        }
        let path = self.inside(tree)?;
        let mtime = (!self.source.checkout_time).then_some(time);
        Ok(Checkout { scratch, path, time, mtime })
    }

    /// The one commit where the server can give it alone, else everything that leads to it.
    fn fetch(&self, git: &Git<'_>) -> Result<(), BuildError> {
        let wanted = self.name.as_deref().unwrap_or(&self.commit);
        let url = &self.source.url;
        let alone = ["fetch", "--quiet", "--depth=1", "--no-tags", "--end-of-options", url, wanted];
        if git.run(&alone).is_ok() && self.is_there(git) {
            return Ok(());
        }
        // Servers without shallow fetches, or that give only what a name leads to; or the name has moved on.
        let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        git.run(&["fetch", "--quiet", "--no-tags", "--end-of-options", url, all[0], all[1]])?;
        if !self.is_there(git) {
            // Neither a branch nor a tag leads to it: it may still be served.
            git.run(&["fetch", "--quiet", "--no-tags", "--end-of-options", url, wanted])?;
        }
        Ok(())
    }

    fn is_there(&self, git: &Git<'_>) -> bool {
        git.run(&["cat-file", "-e", &format!("{}^{{commit}}", self.commit)]).is_ok()
    }

    /// The subdirectory: a real directory of the checkout, reached through real directories.
    fn inside(&self, tree: PathBuf) -> Result<PathBuf, BuildError> {
        let Some(subdir) = &self.source.subdir else { return Ok(tree) };
        let refused = |why: &str| BuildError::Refused {
            action: format!("use `{}` of git repository `{}`", subdir.escape_debug(), self.source.shown()),
            source: why.into(),
        };
        let root = Root::open(&tree).map_err(|error| BuildError::store("open a checkout", error))?;
        let wanted = GuestPath::new(subdir.as_bytes()).map_err(|error| refused(&error.to_string()))?;
        let found = root.resolve(&wanted).map_err(|error| refused(&error.to_string()))?;
        let is_dir = found
            .stat
            .is_some_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory);
        if wanted.climbs() || found.real != wanted.as_bytes() {
            return Err(refused("a symbolic link or `..` is on the way"));
        }
        if !is_dir {
            return Err(refused("it is no directory there"));
        }
        Ok(tree.join(subdir.trim_matches('/')))
    }
}

/// A whole SHA-1 or SHA-256 name.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What the server says that a name means.
fn advertised(session: &Session<'_>, source: &GitSource, wanted: &str) -> Result<Advertised, BuildError> {
    let scratch = Scratch::new(&session.machine.store)
        .map_err(|error| BuildError::store("make a directory for a git repository", error))?;
    let git = Git::new(session, source, scratch.path())?;
    let peeled = format!("{wanted}^{{}}");
    let listed = git.run(&["ls-remote", "--quiet", "--end-of-options", &source.url, wanted, &peeled])?;
    choose(&listed, wanted).ok_or_else(|| BuildError::Fetch {
        action: format!("find `{}` in git repository `{}`", wanted.escape_debug(), source.shown()),
        source: "it has no such branch or tag (a commit must be given in full)".into(),
    })
}

/// What a name means: the object that it names, the commit that this leads to, the name in full.
#[derive(Debug, PartialEq, Eq)]
struct Advertised {
    object: String,
    commit: String,
    name: Option<String>,
}

/// Picks from `ls-remote`'s lines as BuildKit does: the name itself, then branches, then tags. An annotated tag means
/// the commit that it points to.
fn choose(listed: &str, wanted: &str) -> Option<Advertised> {
    let lines: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('\t')).collect();
    let of = |name: &str| lines.iter().find(|(_, listed)| *listed == name).map(|(object, _)| (*object).to_owned());
    let names = ["", "refs/", "refs/heads/", "refs/tags/"].map(|prefix| format!("{prefix}{wanted}"));
    let (object, name) = names.into_iter().find_map(|name| Some((of(&name)?, name)))?;
    let commit = of(&format!("{name}^{{}}")).unwrap_or_else(|| object.clone());
    let name = (name != "HEAD").then_some(name);
    (is_commit(&commit) && is_commit(&object)).then_some(Advertised { object, commit, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_git_means() {
        let (a, b, c) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let listed = format!(
            "{a}\tHEAD\n{a}\trefs/heads/main\n{a}\trefs/heads/both\n{c}\trefs/tags/both\n{c}\trefs/tags/v1\n\
             {b}\trefs/tags/v1^{{}}\n{b}\trefs/heads/x/main\n"
        );
        let found = |wanted: &str| choose(&listed, wanted).map(|found| (found.commit, found.name));
        assert_eq!(found("HEAD"), Some((a.clone(), None)));
        assert_eq!(found("main"), Some((a.clone(), Some("refs/heads/main".into()))));
        assert_eq!(found("v1"), Some((b.clone(), Some("refs/tags/v1".into()))));
        assert_eq!(found("both"), Some((a.clone(), Some("refs/heads/both".into()))));
        assert_eq!(found("tags/both"), Some((c.clone(), Some("refs/tags/both".into()))));
        assert_eq!(choose(&listed, "v1").map(|found| found.object), Some(c));
        assert_eq!(found("missing"), None);
        assert_eq!(choose("--upload-pack=x\tHEAD\n", "HEAD"), None);
    }
}
