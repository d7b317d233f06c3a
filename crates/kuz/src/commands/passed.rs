//! Flags of `kuz build` that pass something of this machine on to steps: `--secret`, `--ssh`, `--ulimit`, `--allow`.
//!
//! In: words, and a way to look variables up. Out: values, or what is wrong with a word and what to do. Files of secrets are
//! looked at, so that a mistyped path is told at once; their content is read when a step needs it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use kuz_build::request::SecretSource;
use kuz_build::{Hidden, Ulimit};

type Lookup<'l> = &'l dyn Fn(&str) -> Option<OsString>;

/// `--secret`
pub(crate) fn secrets(words: &[String], variable: Lookup<'_>) -> Result<BTreeMap<String, SecretSource>, String> {
    let mut secrets = BTreeMap::new();
    for word in words {
        let (id, source) = secret(word, variable)?;
        if secrets.insert(id.clone(), source).is_some() {
            return Err(format!("`--secret id={id}` stands twice"));
        }
    }
    Ok(secrets)
}

/// The parts of one `--secret`, as buildx names them.
fn secret(word: &str, variable: Lookup<'_>) -> Result<(String, SecretSource), String> {
    // A value that somebody put on the command line must not show up in a message.
    let shown = word.split(',').map(|part| part.split('=').next().unwrap_or_default()).collect::<Vec<_>>().join(",");
    let bad = |what: String| format!("`--secret` with {shown}: {what} (want id=NAME,src=FILE or id=NAME,env=VARIABLE)");
    let (mut id, mut file, mut env, mut kind) = (String::new(), None, None, None);
    for part in word.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| bad("a part is no KEY=VALUE".into()))?;
        match key.to_ascii_lowercase().as_str() {
            "id" => value.clone_into(&mut id),
            "src" | "source" => file = Some(value.to_owned()),
            "env" => env = Some(value.to_owned()),
            "type" if value == "file" || value == "env" => kind = Some(value.to_owned()),
            "type" => return Err(bad("the type is neither file nor env".into())),
            _ => return Err(bad(format!("unexpected key `{}`", key.escape_debug()))),
        }
    }
    if id.is_empty() {
        return Err(bad("there is no id".into()));
    }
    if kind.as_deref() == Some("env") && env.is_none() {
        env = file.take();
    }
    let is_variable = kind.as_deref() == Some("env") || kind.is_none() && variable(&id).is_some();
    let env = env.or_else(|| (file.is_none() && is_variable).then(|| id.clone()));
    if let Some(name) = env.filter(|_| kind.as_deref() != Some("file")) {
        let value = variable(&name).ok_or_else(|| bad(format!("the variable `{}` is not set", name.escape_debug())))?;
        return Ok((id, SecretSource::Value(Hidden(value.into_vec()))));
    }
    let path = PathBuf::from(file.unwrap_or_else(|| id.clone()));
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => Ok((id, SecretSource::File(path))),
        Ok(_) => Err(bad(format!("`{}` is not a regular file", path.display()))),
        Err(error) => Err(bad(format!("`{}` cannot be read: {error}", path.display()))),
    }
}

/// `--ssh`
pub(crate) fn agents(words: &[String], variable: Lookup<'_>) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut agents = BTreeMap::new();
    for word in words {
        let (id, path) = word.split_once('=').map_or((word.as_str(), None), |(id, path)| (id, Some(path)));
        if id.is_empty() {
            return Err(format!("`--ssh {word}` has no id (want default, or ID=SOCKET)"));
        }
        let path = match path {
            Some(path) => PathBuf::from(path),
            None => variable("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from).ok_or_else(|| {
                format!("`--ssh {word}`: SSH_AUTH_SOCK is not set (start an agent: eval $(ssh-agent); ssh-add)")
            })?,
        };
        match std::fs::metadata(&path) {
            Ok(found) if found.file_type().is_socket() => {}
            Ok(_) => {
                return Err(format!(
                    "`--ssh {word}`: `{}` is no agent's socket; keys are passed on by an agent only (ssh-add {0})",
                    path.display()
                ));
            }
            Err(error) => return Err(format!("`--ssh {word}`: `{}` cannot be used: {error}", path.display())),
        }
        if agents.insert(id.to_owned(), path).is_some() {
            return Err(format!("`--ssh {id}` stands twice"));
        }
    }
    Ok(agents)
}

/// One `--ulimit`: `nofile=1024`, `nofile=1024:2048`, -1 is unlimited.
pub(crate) fn ulimit(word: &str) -> Result<Ulimit, String> {
    let bad = |what: &str| format!("`--ulimit {word}`: {what} (want NAME=SOFT[:HARD], such as nofile=1024:4096)");
    let (name, values) = word.split_once('=').ok_or_else(|| bad("there is no ="))?;
    let known = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    if !known.contains(&name) {
        return Err(bad("no limit has this name"));
    }
    let number = |text: &str| match text {
        "-1" => Ok(None),
        _ => text.parse::<u64>().map(Some).map_err(|_| bad("a limit is a number, or -1 for none")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
        return Err(bad("the soft limit is above the hard one"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// `--allow`: what can be granted here is granted already.
pub(crate) fn check_grants(words: &[String]) -> Result<(), String> {
    for word in words {
        match word.as_str() {
            "network.host" => {}
            "security.insecure" => {
                return Err("`--allow security.insecure` cannot be granted: steps run in a user namespace, which \
                            cannot give them the machine's real root"
                    .into());
            }
            "device" => {
                return Err("`--allow device` cannot be granted: a user namespace has no devices to give".into());
            }
            other => {
                return Err(format!(
                    "`--allow {}`: nothing of this name can be granted (want network.host)",
                    other.escape_debug()
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_variables() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file").display().to_string();
        std::fs::write(&file, "x").unwrap();
        let variable = |name: &str| (name == "TOKEN").then(|| OsString::from("canary"));
        let read = |word: &str| secret(word, &variable);
        let value = || SecretSource::Value(Hidden(b"canary".to_vec()));
        let at = |path: &str| SecretSource::File(PathBuf::from(path));
        assert_eq!(read(&format!("id=a,src={file}")), Ok(("a".into(), at(&file))));
        assert_eq!(read(&format!("type=file,id=a,source={file}")), Ok(("a".into(), at(&file))));
        assert_eq!(read("id=a,env=TOKEN"), Ok(("a".into(), value())));
        assert_eq!(read("id=a,type=env,src=TOKEN"), Ok(("a".into(), value())));
        assert_eq!(read("id=TOKEN"), Ok(("TOKEN".into(), value())));
        assert_eq!(read(&format!("id={file}")), Ok((file.clone(), at(&file))));
        for bad in ["", "id", "src=x", "id=a,src=/no/such", "id=a,env=NONE", "id=a,type=x,src=y", "id=a,value=canary"] {
            let message = read(bad).unwrap_err();
            assert!(!message.contains("canary"), "{message}");
        }
        assert!(secrets(&["id=TOKEN".into(), "id=TOKEN".into()], &variable).is_err());
    }

    #[test]
    fn limits_are_read_as_docker_reads_them() {
        let limit = |name: &str, soft, hard| Ok(Ulimit { name: name.into(), soft, hard });
        assert_eq!(ulimit("nofile=10"), limit("nofile", Some(10), Some(10)));
        assert_eq!(ulimit("nofile=10:20"), limit("nofile", Some(10), Some(20)));
        assert_eq!(ulimit("core=-1"), limit("core", None, None));
        for bad in ["nofile", "files=1", "nofile=x", "nofile=20:10", "nofile=-1:10", "nofile=-2"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn agents_are_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let set = |_: &str| Some(socket.clone().into_os_string());
        let words = |word: &str| [word.to_owned()];
        assert_eq!(agents(&words("default"), &set).unwrap()["default"], socket);
        assert_eq!(agents(&words(&format!("x={}", socket.display())), &|_| None).unwrap()["x"], socket);
        for bad in ["default", "=x", "x=/etc/passwd", "x=/no/such"] {
            assert!(agents(&words(bad), &|_| None).is_err(), "{bad}");
        }
        assert!(check_grants(&["network.host".into()]).is_ok());
        assert!(check_grants(&["security.insecure".into()]).unwrap_err().contains("user namespace"));
        assert!(check_grants(&["all".into()]).is_err());
    }
}
