//! `kuz pull|push|login|logout`: what talks to registries.
//!
//! Passwords are read from standard input or a terminal without echo, never from an argument.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use kuz_build::error::BuildError;
use kuz_build::{Platform, Session, remote};

use super::{print, with_session};
use crate::args::{LoginArgs, PullArgs, PushArgs};
use crate::signals;

/// A password longer than this is a mistake.
const PASSWORD_BYTES: u64 = 64 << 10;

/// `kuz pull`
pub(crate) fn pull(arguments: &PullArgs) -> u8 {
    with_session(arguments.quiet, |session, progress| {
        let platform = match &arguments.platform {
            Some(text) => text.parse().map_err(|error| BuildError::input(format!("`--platform`: {error}")))?,
            None => Platform::host(),
        };
        let pulled = remote::pull(session, &arguments.image, &platform)?;
        progress.close();
        print(&format!("{pulled}\n"))
    })
}

/// `kuz push`
pub(crate) fn push(arguments: &PushArgs) -> u8 {
    with_session(arguments.quiet, |session, progress| {
        let pushed = remote::push(session, &arguments.image, arguments.reference.as_deref())?;
        progress.close();
        print(&format!("{pushed}\n"))
    })
}

/// `kuz login`
pub(crate) fn login(arguments: &LoginArgs) -> u8 {
    with_session(false, |session, progress| {
        let username = match &arguments.username {
            Some(name) => name.clone(),
            None if std::io::stdin().is_terminal() => ask(session, "Username: ")?,
            None => return Err(BuildError::input("`kuz login` needs -u NAME where standard input is no terminal")),
        };
        let password = if arguments.password_stdin || !std::io::stdin().is_terminal() {
            let mut text = String::new();
            std::io::stdin()
                .take(PASSWORD_BYTES)
                .read_to_string(&mut text)
                .map_err(|error| BuildError::store("read the password from standard input", error))?;
            text.trim_end_matches(['\n', '\r']).to_owned()
        } else {
            without_echo(|| ask(session, "Password: "))?
        };
        let place = remote::login(session, &arguments.registry, &username, password)?;
        progress.say(&format!("logged in to {} as {username}; {place}", arguments.registry));
        Ok(())
    })
}

/// `kuz logout`
pub(crate) fn logout(registry: &str) -> u8 {
    with_session(false, |session, progress| {
        let was = remote::logout(session, registry)?;
        progress.say(&if was { format!("logged out of {registry}") } else { format!("not logged in to {registry}") });
        Ok(())
    })
}

/// A line from standard input. A signal ends the wait, as everywhere.
fn ask(session: &Session<'_>, prompt: &str) -> Result<String, BuildError> {
    let _ = write!(std::io::stderr(), "{prompt}");
    session.await_input()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|error| BuildError::store("read standard input", error))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Runs `work` with the terminal's echo off, and puts it back whatever happens, a second signal included.
fn without_echo<T>(work: impl FnOnce() -> T) -> T {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).ok();
    if let Some(before) = &before {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        signals::at_exit(Some(Box::new({
            let before = before.clone();
            move || {
                let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
            }
        })));
        let _ = tcsetattr(&stdin, OptionalActions::Now, &silent);
    }
    let outcome = work();
    if let Some(before) = &before {
        let _ = tcsetattr(&stdin, OptionalActions::Now, before);
        signals::at_exit(None);
        let _ = writeln!(std::io::stderr());
    }
    outcome
}
