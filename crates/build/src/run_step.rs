//! RUN: a command in the sandbox, over the trees of all layers below, leaving a tree of what it changed.
//!
//! From its record where the key was seen before. A failed command leaves nothing but its last lines for the message.

use std::collections::{BTreeMap, VecDeque};

use kuz_image::Digest;
use kuz_plan::plan::{Inline, Network, Run};
use kuz_sandbox::{Exit, Hidden, RunStep, SandboxError, StartError, Stdio};

use crate::error::{BuildError, StepFailure};
use crate::event::{Event, Stream};
use crate::execute::{Execution, Outcome};
use crate::explain::Surrounding;
use crate::layers::Layer;
use crate::mounts::{At, Prepared};
use crate::redact::Redactor;
use crate::request::BuildRequest;
use kuz_store::StepRecord;

/// The build argument that names the machine that RUN sees.
const SANDBOX_HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";
/// Lines of a failed step that its message shows.
const TAIL_LINES: usize = 20;
/// A line of that tail is cut here.
const TAIL_LINE_BYTES: usize = 1000;

impl Execution<'_> {
    pub(crate) fn run_step(&self, at: At<'_>, run: &Run) -> Result<Outcome, BuildError> {
        let At { stand, step, name, .. } = at;
        let mut inputs = self.mount_inputs(at, run)?;
        inputs.push(self.surroundings());
        let key = self.key(stand, step, &inputs);
        if let Some(known) = self.recall(stand, &key)? {
            return Ok(known);
        }
        (self.session.events)(Event::StepStarted(name.clone()));
        self.notes.keyed(stand.stage.number, name.step, &key);
        self.keep_step(&stand.chain, &step.op, &key, self.mount_notes(at, &inputs), self.surroundings_shown());
        let mounts = self.prepare_mounts(at, run)?;
        let mut hidden = mounts.secrets.clone();
        hidden.extend(secrets(run, &self.session.machine.proxies));
        let mut redactors = [Redactor::new(&hidden), Redactor::new(&hidden)];
        let worker = self.session.worker()?;
        let lowers = self.layers.all_trees(&stand.layers)?;
        let trees = self.session.trees()?;
        let upper = trees.begin().map_err(|error| BuildError::store("make room for what a step changes", error))?;
        let sandboxed = self.sandbox_step(run, lowers, upper.name().to_string(), mounts);
        let mut tail = Tail::default();
        let mut show = |stream, bytes: Vec<u8>| {
            if !bytes.is_empty() {
                tail.take(&bytes);
                (self.session.events)(Event::StepOutput { name: name.clone(), stream, bytes });
            }
        };
        let [out, err] = &mut redactors;
        let mut take = |stream, bytes: &[u8]| match stream {
            kuz_sandbox::Stream::Stdout => show(Stream::Out, out.take(bytes)),
            kuz_sandbox::Stream::Stderr => show(Stream::Err, err.take(bytes)),
        };
        let exit = worker.run(&sandboxed, &mut take, &self.session.work);
        // Locks of caches go with the step, and secrets from memory.
        drop(sandboxed);
        show(Stream::Out, out.finish());
        show(Stream::Err, err.finish());
        let ended = match exit {
            Ok(Exit::Code(0)) => None,
            Ok(exit) => Some(exit.to_string()),
            Err(error) => {
                self.session.cancelled()?;
                match error {
                    // An image that is laid out against the sandbox, not a command that fails.
                    SandboxError::NotStarted(start @ (StartError::InTheWay { .. } | StartError::CwdOutside { .. })) => {
                        return Err(BuildError::Refused {
                            action: format!("run the step in line {} of {}", name.line, self.inputs.file),
                            source: Box::new(start),
                        });
                    }
                    SandboxError::NotStarted(start) => Some(cause_chain(&start)),
                    error => {
                        return Err(BuildError::Environment {
                            message: format!("the step in line {} could not be run", name.line),
                            source: Some(Box::new(error)),
                        });
                    }
                }
            }
        };
        if let Some(ended) = ended {
            self.session.cancelled()?;
            return Err(BuildError::Step(Box::new(StepFailure {
                name: name.clone(),
                file: self.inputs.file.clone(),
                ended,
                tail: tail.lines(),
            })));
        }
        let upper = self.session.record_tree(upper)?;
        let created = self.epoch_time().unwrap_or_else(|| self.session.now());
        let record = StepRecord { created, diff_id: None, tree: Some(upper.to_string()), notes: BTreeMap::new() };
        self.session.record_step(&key, &record)?;
        Ok(Outcome::new(Layer::Tree { name: upper, key: key.clone() }, &key, record, false))
    }

    /// What the request says of a command's surroundings, beside what the plan says.
    pub(crate) fn surroundings(&self) -> Digest {
        let BuildRequest { hosts, shm_size, ulimits, .. } = self.request;
        let hostname = self.hostname();
        Digest::of(format!("hosts {hosts:?} shm {shm_size:?} limits {ulimits:?} name {hostname:?}").as_bytes())
    }

    /// The same for people.
    pub(crate) fn surroundings_shown(&self) -> Vec<Surrounding> {
        let BuildRequest { hosts, shm_size, ulimits, .. } = self.request;
        let hosts = hosts.iter().map(|(name, address)| ("--add-host".to_owned(), format!("{name}:{address}")));
        let limits = ulimits.iter().map(|limit| ("--ulimit".to_owned(), format!("{limit:?}")));
        let shm = shm_size.map(|bytes| ("--shm-size".to_owned(), bytes.to_string()));
        let name = self.hostname().map(|name| (SANDBOX_HOSTNAME.to_owned(), name.clone()));
        hosts.chain(limits).chain(shm).chain(name).collect()
    }

    /// The host name that a build argument gives.
    fn hostname(&self) -> Option<&String> {
        self.request.input.build_args.as_ref()?.get(SANDBOX_HOSTNAME).filter(|name| !name.is_empty())
    }

    fn sandbox_step(&self, run: &Run, lowers: Vec<String>, upper: String, mounts: Prepared) -> RunStep {
        let mut env = run.env.to_vec();
        env.extend(mounts.env);
        env.extend(run.proxies.iter().cloned());
        for (name, value) in &self.session.machine.proxies {
            if !env.iter().any(|(known, _)| known == name) {
                env.push((name.clone(), value.clone()));
            }
        }
        let usual = RunStep::default();
        RunStep {
            lowers,
            upper,
            hostname: self.hostname().cloned().unwrap_or(usual.hostname),
            argv: run.argv.clone(),
            env,
            cwd: run.cwd.clone(),
            user: run.user.clone(),
            network: match run.network {
                Network::Host => kuz_sandbox::Network::Host,
                Network::None => kuz_sandbox::Network::None,
            },
            hosts: self.request.hosts.iter().map(|(name, address)| (address.clone(), name.clone())).collect(),
            scripts: run.scripts.iter().map(script).collect(),
            shm_size: self.request.shm_size.unwrap_or(kuz_sandbox::SHM_BYTES),
            mounts: mounts.mounts,
            secret_env: mounts.secret_env,
            held: mounts.held,
            ulimits: self.request.ulimits.clone(),
            stdio: Stdio::Captured,
            ..RunStep::default()
        }
    }

    /// Keys of stages, for what is copied out of them.
    pub(crate) fn selection_key(chain: &Digest, words: &[&[u8]]) -> Digest {
        let mut text = format!("selection 1 {chain}").into_bytes();
        for word in words {
            text.extend_from_slice(&(word.len() as u64).to_be_bytes());
            text.extend_from_slice(word);
        }
        Digest::of(&text)
    }
}

/// An error and its causes on one line.
pub(crate) fn cause_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn script(file: &Inline) -> kuz_sandbox::Script {
    kuz_sandbox::Script { name: file.name.clone(), content: file.content.clone().into_bytes() }
}

/// Words in a variable's name that say its value is not for everybody's eyes.
const SECRET_WORDS: [&str; 9] =
    ["apikey", "auth", "credential", "key", "password", "passwd", "pword", "secret", "token"];

/// Values that a step's output must not show: of variables with telling names, and proxies' credentials.
fn secrets(run: &Run, proxies: &BTreeMap<String, String>) -> Vec<Hidden> {
    let telling = |name: &str| {
        let name = name.to_lowercase();
        SECRET_WORDS.iter().any(|word| name.contains(word)) && !name.contains("public")
    };
    let named = run.env.iter().filter(|(name, _)| telling(name)).map(|(_, value)| value.to_owned());
    let login = |url: &String| url.split_once("://")?.1.rsplit_once('@').map(|(login, _)| login.to_owned());
    let logins = run.proxies.iter().map(|(_, url)| url).chain(proxies.values()).filter_map(login);
    let parts = logins.flat_map(|login| {
        let password = login.split_once(':').map(|(_, password)| password.to_owned());
        std::iter::once(login).chain(password)
    });
    named.chain(parts).map(|value| Hidden(value.into())).collect()
}

/// The last lines of an output, in bounded memory.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<Vec<u8>>,
    open: Vec<u8>,
}

impl Tail {
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.close();
            } else if self.open.len() < TAIL_LINE_BYTES {
                self.open.push(byte);
            }
        }
    }

    fn close(&mut self) {
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(std::mem::take(&mut self.open));
    }

    pub(crate) fn lines(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.close();
        }
        self.lines.iter().map(|line| String::from_utf8_lossy(line).trim_end().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_twenty_lines_and_bounded() {
        let mut tail = Tail::default();
        for number in 0..100 {
            tail.take(format!("line {number}\r\n").as_bytes());
        }
        tail.take(&vec![b'x'; 100_000]);
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.first().map(String::as_str), Some("line 81"));
        assert_eq!(lines.last().map(String::len), Some(TAIL_LINE_BYTES));
    }
}
