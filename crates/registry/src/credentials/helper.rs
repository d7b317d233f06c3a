//! `docker-credential-NAME` programs: `get`, `store` and `erase`.
//!
//! They are found in the given search path, run without a shell, get their input on standard input, and are killed
//! when they take too long.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{Credential, CredentialError};
use crate::error::printable;
use crate::secret::Secret;

/// A helper's answer: one credential.
const ANSWER_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: String,
}

/// Asks a helper; `None` where it knows nothing of this server.
pub(super) async fn get(
    name: &str,
    server: &str,
    programs: Option<&OsStr>,
    timeout: Duration,
) -> Result<Option<Credential>, CredentialError> {
    let (good, output) = run(name, "get", server.as_bytes(), programs, timeout).await?;
    let failed = |detail: String| CredentialError::HelperFailed { name: name.to_owned(), detail };
    if !good {
        let text = String::from_utf8_lossy(&output);
        // The helpers' protocol has no other way to say it.
        let unknown = text.contains("credentials not found") || text.contains("no credentials server URL");
        return if unknown { Ok(None) } else { Err(failed(printable(&text, 300))) };
    }
    let answer: Answer =
        serde_json::from_slice(&output).map_err(|_| failed("its answer is not the JSON that it should be".into()))?;
    Ok(Some(match answer.username.as_str() {
        _ if answer.secret.is_empty() => return Ok(None),
        "<token>" => Credential::Identity { token: Secret::new(answer.secret) },
        _ => Credential::Password { username: answer.username, password: Secret::new(answer.secret) },
    }))
}

/// Gives a helper credentials to keep.
pub(super) async fn store(
    name: &str,
    server: &str,
    credential: &Credential,
    programs: Option<&OsStr>,
    timeout: Duration,
) -> Result<(), CredentialError> {
    let (username, secret) = match credential {
        Credential::Password { username, password } => (username.as_str(), password),
        Credential::Identity { token } | Credential::Registry { token } => ("<token>", token),
    };
    let input = serde_json::json!({"ServerURL": server, "Username": username, "Secret": secret.expose()});
    let (good, output) = run(name, "store", input.to_string().as_bytes(), programs, timeout).await?;
    if good {
        return Ok(());
    }
    let detail = printable(&secret.scrub(&String::from_utf8_lossy(&output)), 300);
    Err(CredentialError::HelperFailed { name: name.to_owned(), detail })
}

/// Makes a helper forget; nothing to forget is fine.
pub(super) async fn erase(
    name: &str,
    server: &str,
    programs: Option<&OsStr>,
    timeout: Duration,
) -> Result<(), CredentialError> {
    let (good, output) = run(name, "erase", server.as_bytes(), programs, timeout).await?;
    let text = String::from_utf8_lossy(&output);
    if good || text.contains("credentials not found") {
        return Ok(());
    }
    Err(CredentialError::HelperFailed { name: name.to_owned(), detail: printable(&text, 300) })
}

async fn run(
    name: &str,
    verb: &str,
    input: &[u8],
    programs: Option<&OsStr>,
    timeout: Duration,
) -> Result<(bool, Vec<u8>), CredentialError> {
    let program = find(name, programs)?;
    let failed =
        |error: std::io::Error| CredentialError::HelperFailed { name: name.to_owned(), detail: error.to_string() };
    let talk = async {
        let mut child = Command::new(program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            // A helper that doesn't read its input still answers by its status.
            let _ = pipe.write_all(input).await;
        }
        let mut output = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            pipe.take(ANSWER_BYTES).read_to_end(&mut output).await?;
        }
        Ok((child.wait().await?.success(), output))
    };
    tokio::time::timeout(timeout, talk)
        .await
        .map_err(|_| CredentialError::HelperTimeout { name: name.to_owned(), waited: timeout })?
        .map_err(failed)
}

/// The program in the search path. Its name comes from a file: it must not be able to name a path.
fn find(name: &str, programs: Option<&OsStr>) -> Result<PathBuf, CredentialError> {
    let valid =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if !valid {
        return Err(CredentialError::HelperName { name: name.to_owned() });
    }
    let executable = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(programs.unwrap_or_default())
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(format!("docker-credential-{name}")))
        .find(executable)
        .ok_or_else(|| CredentialError::HelperMissing { name: name.to_owned() })
}
