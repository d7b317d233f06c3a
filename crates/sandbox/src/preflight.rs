//! Can this machine run steps, and if not, which command mends it?
//!
//! In: who asks and a few facts of the environment, as values. Out: a [`Preflight`]. The answer comes from trying: a child
//! in new namespaces, a worker on a directory. Nothing is left behind.

use std::os::fd::OwnedFd;

use crate::errno::OsError;
use crate::ids::{self, Ids, IdsError, Machine, SingleBecause};
use crate::isolation::Isolation;
use crate::sys;
use crate::worker::{Options, SandboxError, Worker};

/// Who asks, and what only the caller knows.
#[derive(Debug, Clone, Default)]
pub struct Asker {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// The user's name; empty where it isn't known.
    pub user: String,
    /// The range that the store's trees belong to.
    pub recorded: Option<(u32, u32)>,
    /// Is `KUBERNETES_SERVICE_HOST` set?
    pub kubernetes: bool,
}

/// What this machine can do for RUN.
#[derive(Debug)]
pub struct Preflight {
    /// The ids to start a worker with; `None` where RUN is impossible.
    pub ids: Option<Ids>,
    /// Can file systems be overlaid? Known once a worker was tried.
    pub overlay: bool,
    /// How well RUN is shut in.
    pub isolation: Isolation,
    /// What is missing or weaker than it could be, one sentence each.
    pub notes: Vec<String>,
    /// The command that mends it.
    pub mend: Option<String>,
}

/// The kernel's and the surroundings' switches, as [`explain`] sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Surroundings {
    /// `/proc/sys/user/max_user_namespaces`
    max_user_namespaces: String,
    /// `/proc/sys/kernel/unprivileged_userns_clone` (Debian, Arch)
    unprivileged_userns_clone: String,
    /// `/proc/sys/kernel/apparmor_restrict_unprivileged_userns` (Ubuntu from 23.10)
    apparmor_restrict: String,
    /// `/.dockerenv` is there
    docker: bool,
    /// `/run/.containerenv` is there
    podman: bool,
    kubernetes: bool,
}

impl Surroundings {
    fn look(kubernetes: bool) -> Self {
        let switch = |path| ids::read_small(path).trim().to_owned();
        Self {
            max_user_namespaces: switch("/proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: switch("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restrict: switch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            docker: rustix::fs::stat("/.dockerenv").is_ok(),
            podman: rustix::fs::stat("/run/.containerenv").is_ok(),
            kubernetes,
        }
    }
}

/// Looks at this machine. With a directory for trees, a worker is started in it and asked what it can do.
pub fn preflight(asker: &Asker, trees: Option<OwnedFd>, options: &Options) -> Preflight {
    let (ids, single) = match ids::choose(asker.uid, asker.gid, &asker.user, asker.recorded, &Machine::read()) {
        Ok(found) => found,
        Err(error) => return no_ids(&error),
    };
    let mut found =
        Preflight { ids: Some(ids), overlay: false, isolation: Isolation::Full, notes: Vec::new(), mend: None };
    if let Some(because) = single {
        let (note, mend) = explain_single(because, &asker.user);
        found.notes.push(note);
        found.mend = Some(mend);
    }
    if let Err(error) = sys::try_user_namespace() {
        return no_namespaces(OsError::from(error), asker);
    }
    let Some(trees) = trees else { return found };
    match Worker::start(&ids, trees, options) {
        Ok(worker) => {
            found.isolation = worker.isolation();
            found.overlay = found.isolation.overlay();
            if found.isolation != Isolation::Full {
                found.notes.push(found.isolation.to_string());
            }
        }
        Err(SandboxError::NoNamespaces { source }) => return no_namespaces(source, asker),
        Err(error) => {
            found.isolation = Isolation::None;
            found.ids = None;
            found.notes.push(chain(&error));
            found.mend = mend_of(&error, &asker.user).or(found.mend);
        }
    }
    found
}

fn none(note: String, mend: Option<String>) -> Preflight {
    Preflight { ids: None, overlay: false, isolation: Isolation::None, notes: vec![note], mend }
}

fn no_ids(error: &IdsError) -> Preflight {
    none(error.to_string(), Some(error.mend()))
}

fn no_namespaces(error: OsError, asker: &Asker) -> Preflight {
    let (note, mend) = explain(error, asker.uid, &Surroundings::look(asker.kubernetes));
    none(note, Some(mend))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// What a failed start says about the machine.
fn mend_of(error: &SandboxError, user: &str) -> Option<String> {
    match error {
        SandboxError::Helper { .. } => Some(add_range(user)),
        SandboxError::Map { .. } => {
            Some("ask who runs this container to allow user namespaces with more than one id".to_owned())
        }
        _ => None,
    }
}

fn add_range(user: &str) -> String {
    let user = if user.is_empty() { "\"$(id -un)\"" } else { user };
    format!("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}")
}

fn explain_single(because: SingleBecause, user: &str) -> (String, String) {
    const LIMITS: &str = "RUN works with root alone: no other user, and every file belongs to root";
    let (why, mend) = match because {
        SingleBecause::NoHelpers => {
            ("newuidmap and newgidmap are not installed", "sudo apt-get install uidmap".to_owned())
        }
        SingleBecause::HelpersPowerless => {
            ("newuidmap or newgidmap is not setuid root", "sudo apt-get install --reinstall uidmap".to_owned())
        }
        SingleBecause::NoRange => ("there are no subordinate ids in /etc/subuid and /etc/subgid", add_range(user)),
    };
    (format!("{why}, so {LIMITS}"), mend)
}

/// Why user namespaces are refused, most particular reason first, and the command that allows them.
fn explain(error: OsError, uid: u32, around: &Surroundings) -> (String, String) {
    let note = |why: &str| format!("{why} ({error}), so RUN cannot be executed");
    if around.max_user_namespaces == "0" {
        let mend = "sudo sysctl -w user.max_user_namespaces=15000";
        return (note("user namespaces are switched off (user.max_user_namespaces is 0)"), mend.to_owned());
    }
    if uid != 0 && around.unprivileged_userns_clone == "0" {
        let mend = "sudo sysctl -w kernel.unprivileged_userns_clone=1";
        return (note("user namespaces are for root only (kernel.unprivileged_userns_clone is 0)"), mend.to_owned());
    }
    if uid != 0 && around.apparmor_restrict == "1" {
        let mend = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
        return (
            note("AppArmor takes user namespaces' rights away (kernel.apparmor_restrict_unprivileged_userns is 1)"),
            mend.to_owned(),
        );
    }
    if around.kubernetes {
        let mend = "in the pod's securityContext: {seccompProfile: {type: Unconfined}, appArmorProfile: {type: \
                    Unconfined}}, procMount: Unmasked and hostUsers: false";
        return (note("this Kubernetes pod may not make user namespaces"), mend.to_owned());
    }
    if around.docker {
        let mend = "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt \
                    systempaths=unconfined …";
        return (note("this Docker container may not make user namespaces"), mend.to_owned());
    }
    if around.podman {
        let mend = "podman run --security-opt seccomp=unconfined --security-opt unmask=ALL …";
        return (note("this container may not make user namespaces"), mend.to_owned());
    }
    let why = match error.0 {
        libc::ENOSPC | libc::EUSERS => "the limit of user namespaces is reached",
        libc::EINVAL | libc::ENOSYS => "this kernel was built without user namespaces",
        _ => "user namespaces are not allowed here",
    };
    (note(why), "run kuz where `unshare --user --mount true` works".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_and_the_command_are_named() {
        let plain = Surroundings { max_user_namespaces: "1000".into(), ..Surroundings::default() };
        let table = [
            (
                libc::ENOSPC,
                1000,
                Surroundings { max_user_namespaces: "0".into(), docker: true, ..plain.clone() },
                "user.max_user_namespaces=",
            ),
            (
                libc::EPERM,
                1000,
                Surroundings { unprivileged_userns_clone: "0".into(), ..plain.clone() },
                "kernel.unprivileged_userns_clone=1",
            ),
            (
                libc::EACCES,
                1000,
                Surroundings { apparmor_restrict: "1".into(), ..plain.clone() },
                "apparmor_restrict_unprivileged_userns=0",
            ),
            // Root isn't restricted by either, so it must be the container.
            (
                libc::EPERM,
                0,
                Surroundings {
                    apparmor_restrict: "1".into(),
                    unprivileged_userns_clone: "0".into(),
                    docker: true,
                    ..plain.clone()
                },
                "docker run --security-opt seccomp=unconfined",
            ),
            (libc::EPERM, 0, Surroundings { podman: true, ..plain.clone() }, "podman run"),
            (libc::EPERM, 1000, Surroundings { kubernetes: true, podman: true, ..plain.clone() }, "securityContext"),
            (libc::EPERM, 1000, plain, "unshare --user"),
        ];
        for (errno, uid, around, expected) in table {
            let (note, mend) = explain(OsError(errno), uid, &around);
            assert!(mend.contains(expected), "{around:?}: {mend}");
            assert!(note.contains("RUN cannot be executed"), "{note}");
        }
    }

    #[test]
    fn a_single_id_is_explained() {
        for (because, expected) in [
            (SingleBecause::NoHelpers, "sudo apt-get install uidmap"),
            (SingleBecause::HelpersPowerless, "--reinstall uidmap"),
            (SingleBecause::NoRange, "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 anna"),
        ] {
            let (note, mend) = explain_single(because, "anna");
            assert!(mend.contains(expected) && note.contains("root alone"), "{note}: {mend}");
        }
    }
}
