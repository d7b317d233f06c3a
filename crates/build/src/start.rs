//! `kuz run`: an image of the store to a running command in the sandbox, and how it ended. Smoke runs start the same way.
//!
//! The layers are unpacked where they are not yet; what the command changes goes to a tree of its own and is discarded.
//! Writes to no image.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use kuz_image::{Config, Descriptor, DiffId, ImageId};
use kuz_plan::plan::Network;
use kuz_sandbox::{Bind, Exit, RunStep, SandboxError, Stdio};
use kuz_store::TreeName;

use crate::error::BuildError;
use crate::event::Stream;
use crate::images;
use crate::layers::{BaseImage, Layer, Layers};
use crate::session::Session;

/// What to start, and how.
#[derive(Debug, Clone, Default)]
pub struct StartRequest {
    /// Name, id or prefix.
    pub image: String,
    /// Replaces CMD, if not empty.
    pub args: Vec<String>,
    /// Replaces ENTRYPOINT (and then CMD too).
    pub entrypoint: Option<String>,
    /// Over the image's ENV.
    pub env: Vec<(String, String)>,
    /// Files and directories of this machine.
    pub volumes: Vec<Volume>,
    /// Instead of the image's WORKDIR.
    pub workdir: Option<String>,
    /// Instead of the image's USER.
    pub user: Option<String>,
    /// With a terminal of its own.
    pub terminal: bool,
    /// What it may reach.
    pub network: Network,
}

/// A directory or file of this machine, seen inside.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Outside.
    pub source: PathBuf,
    /// Inside, absolute.
    pub target: String,
    /// Not to be written.
    pub readonly: bool,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this code.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

/// What a shell's lookup starts with where the image has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts the command and waits for its end. What it writes goes to `output`, unless it has a terminal.
pub fn start(
    session: &Session<'_>,
    request: &StartRequest,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Ended, BuildError> {
    let found = find(session, &request.image)?;
    command(&found.config, request)?;
    let lowers = found.unpack(session)?;
    let trees = session.trees()?;
    let upper = trees.begin().map_err(|error| BuildError::store("make room for what the command writes", error))?;
    let step = step(&found.config, request, found.id.0.short(), lowers, upper.name().to_string())?;
    let mut output = |stream, bytes: &[u8]| output(Stream::from(stream), bytes);
    let worker = session.worker()?;
    let names: BTreeSet<TreeName> = step.lowers.iter().filter_map(|name| name.parse().ok()).collect();
    let pinned = trees
        .pin(&names.into_iter().collect::<Vec<_>>())
        .map_err(|error| BuildError::store("mark the image's trees as in use", error))?;
    // A service may run for months: builds and prunes go on beside it.
    session.release();
    let exit = worker.run(&step, &mut output, session.cancel);
    drop(upper);
    drop(pinned);
    // Where a prune has the store just now, the next command that uses the store deletes what was changed.
    if session.rejoin().is_ok() {
        session.empty_trash();
    }
    match exit {
        Ok(Exit::Code(code)) => Ok(Ended::Code(u8::try_from(code).unwrap_or(u8::MAX))),
        Ok(Exit::Signal(signal)) => Ok(Ended::Signal(signal)),
        Err(SandboxError::NotStarted(error)) => {
            let code = u8::try_from(error.shell_code()).unwrap_or(125);
            let text = crate::run_step::cause_chain(&error);
            if code == 125 { Err(BuildError::input(text)) } else { Err(BuildError::NotStarted { code, message: text }) }
        }
        Err(error) => Err(BuildError::Environment {
            message: format!("`{}` could not be started", request.image),
            source: Some(Box::new(error)),
        }),
    }
}

/// An image of the store that is to be started.
pub(crate) struct Found {
    pub(crate) id: ImageId,
    pub(crate) config: Config,
    reference: String,
    blobs: Vec<Descriptor>,
    diff_ids: Vec<DiffId>,
}

/// Looks an image up.
pub(crate) fn find(session: &Session<'_>, name: &str) -> Result<Found, BuildError> {
    let found = images::find(session, name)?;
    let documents = session
        .store
        .documents(&found.manifest.digest)
        .map_err(|error| images::failed(format!("read image `{name}`"), error))?;
    Ok(Found {
        reference: found.names.first().cloned().unwrap_or_else(|| found.id.to_string()),
        id: found.id,
        config: documents.config.config.clone(),
        blobs: documents.manifest.layers.clone(),
        diff_ids: documents.config.rootfs.diff_ids.clone(),
    })
}

impl Found {
    /// Its trees, lowest first.
    pub(crate) fn unpack(&self, session: &Session<'_>) -> Result<Vec<String>, BuildError> {
        let base = BaseImage { reference: self.reference.clone(), blobs: self.blobs.clone() };
        Layers::new(session, vec![base]).all_trees(&Layer::of_base(0, &self.diff_ids))
    }
}

/// What is run: the image's command as its configuration says, with what the request replaces.
pub(crate) fn step(
    config: &Config,
    request: &StartRequest,
    hostname: &str,
    lowers: Vec<String>,
    upper: String,
) -> Result<RunStep, BuildError> {
    Ok(RunStep {
        lowers,
        upper,
        argv: command(config, request)?,
        env: environment(config, request),
        cwd: workdir(config, request),
        user: request.user.clone().or_else(|| config.user.clone()).unwrap_or_default(),
        network: match request.network {
            Network::Host => kuz_sandbox::Network::Host,
            Network::None => kuz_sandbox::Network::None,
        },
        hostname: hostname.to_owned(),
        binds: request.volumes.iter().map(bind).collect::<Result<_, _>>()?,
        stdio: stdio(request)?,
        ..RunStep::default()
    })
}

/// ENTRYPOINT and CMD, with what the request replaces.
fn command(config: &Config, request: &StartRequest) -> Result<Vec<String>, BuildError> {
    let mut argv = match &request.entrypoint {
        Some(program) => vec![program.clone()],
        None => config.entrypoint.clone().unwrap_or_default(),
    };
    if !request.args.is_empty() {
        argv.extend(request.args.iter().cloned());
    } else if request.entrypoint.is_none() {
        argv.extend(config.cmd.clone().unwrap_or_default());
    }
    if argv.is_empty() {
        let message = format!("image `{}` has neither ENTRYPOINT nor CMD: name a command", request.image);
        return Err(BuildError::input(message));
    }
    Ok(argv)
}

fn environment(config: &Config, request: &StartRequest) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    set("PATH", DEFAULT_PATH);
    for line in config.env.iter().flatten() {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        set(name, value);
    }
    if request.terminal {
        set("TERM", "xterm");
    }
    for (name, value) in &request.env {
        set(name, value);
    }
    env
}

fn workdir(config: &Config, request: &StartRequest) -> String {
    let asked = request.workdir.clone().or_else(|| config.working_dir.clone());
    asked.filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned())
}

fn bind(volume: &Volume) -> Result<Bind, BuildError> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let source: OwnedFd =
        rustix::fs::open(&volume.source, flags, rustix::fs::Mode::empty()).map_err(|error| BuildError::Input {
            message: format!("the volume `{}` cannot be used", volume.source.display()),
            source: Some(Box::new(error)),
        })?;
    Ok(Bind { source, target: volume.target.clone(), readonly: volume.readonly })
}

fn stdio(request: &StartRequest) -> Result<Stdio, BuildError> {
    if !request.terminal {
        // Not the caller's own streams: inside, `/dev/stdout` of another owner could not be opened again.
        return Ok(Stdio::Relayed);
    }
    if !std::io::stdin().is_terminal() {
        return Err(BuildError::input("-t needs a terminal on standard input (leave it out in scripts)"));
    }
    Ok(Stdio::Terminal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(args: &[&str], entrypoint: Option<&str>) -> StartRequest {
        StartRequest {
            image: "app".into(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            entrypoint: entrypoint.map(str::to_owned),
            env: vec![("B".into(), "new".into())],
            volumes: Vec::new(),
            workdir: None,
            user: None,
            terminal: false,
            network: Network::Host,
        }
    }

    #[test]
    fn arguments_replace_cmd_and_an_entrypoint_replaces_both() {
        let words = |text: &str| Some(text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let config = Config { entrypoint: words("run"), cmd: words("a b"), ..Config::default() };
        let line = |request: &StartRequest| command(&config, request).map(|argv| argv.join(" ")).ok();
        assert_eq!(line(&request(&[], None)).as_deref(), Some("run a b"));
        assert_eq!(line(&request(&["c"], None)).as_deref(), Some("run c"));
        assert_eq!(line(&request(&[], Some("x"))).as_deref(), Some("x"));
        assert_eq!(line(&request(&["c"], Some("x"))).as_deref(), Some("x c"));
        assert!(command(&Config::default(), &request(&[], None)).is_err());
    }

    #[test]
    fn the_environment_is_the_images_with_the_requests_over_it() {
        let config = Config { env: Some(vec!["A=1".into(), "B=old".into()]), ..Config::default() };
        let env = environment(&config, &request(&[], None));
        let find = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!((find("A"), find("B"), find("PATH")), (Some("1"), Some("new"), Some(DEFAULT_PATH)));
    }
}
