//! An empty registry on loopback, to push to.
//!
//! In: a directory. Out: HOST:PORT. Debian's docker-registry where it is installed, with its blobs in the room; else the
//! test kit's, which keeps them in memory. Each push that has to find nothing gets a new one.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use kuz_testkit::registry::TestRegistry;

use super::daemon::Daemon;
use crate::problem::Problem;
use crate::{Outcome, http, program};

/// A running registry.
#[derive(Debug)]
pub(super) enum Registry {
    Debian { daemon: Daemon, host: String },
    Ours(TestRegistry),
}

/// Which of the two is used here.
pub(super) fn kind() -> &'static str {
    if program::find("docker-registry").is_some() { "docker-registry" } else { "the test kit's registry" }
}

impl Registry {
    /// An empty one; the directory is made and taken away by the caller.
    pub(super) fn start(folder: &Path) -> Outcome<Self> {
        let net = |action: &str| {
            let action = action.to_owned();
            move |source| Problem::Net { action, source }
        };
        let Some(program) = program::find("docker-registry") else {
            return TestRegistry::start().map(Self::Ours).map_err(net("start a registry"));
        };
        fs::create_dir_all(folder).map_err(Problem::file("make", folder))?;
        let port = http::free_port().map_err(net("find a free port"))?;
        let config = folder.join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            folder.join("root").display()
        );
        fs::write(&config, text).map_err(Problem::file("write", &config))?;
        let mut daemon = Daemon::start("registry", Command::new(program).arg("serve").arg(&config), folder)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        daemon.wait_until(|| TcpStream::connect(address).is_ok())?;
        Ok(Self::Debian { daemon, host: address.to_string() })
    }

    pub(super) fn host(&self) -> String {
        match self {
            Self::Debian { host, .. } => host.clone(),
            Self::Ours(registry) => registry.host(),
        }
    }

    /// Its process, whose work is ours and not that of others.
    pub(super) fn daemons(&self) -> Vec<u32> {
        match self {
            Self::Debian { daemon, .. } => vec![daemon.pid()],
            Self::Ours(_) => Vec::new(),
        }
    }
}
