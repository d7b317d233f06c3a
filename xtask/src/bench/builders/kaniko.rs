//! kaniko's executor, named by `KANIKO_EXECUTOR`, in a root of its own.
//!
//! It builds in its own root file system, so it gets an empty one with the executor in it, in mount and process namespaces
//! of its own. It has no cache on disk: without a registry for its cache every build is a cold one, and that is measured.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Builder, Job, Site, missing, require_root};
use crate::Outcome;
use crate::problem::Problem;

/// Where the machine keeps its certificate authorities.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Makes the root new, binds the context into it and enters it.
const SCRIPT: &str = "\
set -e
root=$1; kept=$2; context=$3; dockerfile=$4; shift 4
mount -t tmpfs kaniko \"$root\"
mkdir -p \"$root/proc\" \"$root/dev\" \"$root/workspace\" \"$root/etc\" \"$root/tmp\"
cp -r \"$kept/.\" \"$root\"
cp /etc/resolv.conf \"$root/etc/resolv.conf\"
mount -t proc proc \"$root/proc\"
mount --rbind /dev \"$root/dev\"
mount --bind -o ro \"$context\" \"$root/workspace\"
cp \"$dockerfile\" \"$root/kaniko/Dockerfile\"
exec chroot \"$root\" /kaniko/executor \"$@\"
";

/// The executor in a directory that is copied into each build's root.
#[derive(Debug)]
pub(super) struct Kaniko {
    folder: PathBuf,
    mirror: String,
}

impl Kaniko {
    pub(super) fn find(site: &Site) -> Outcome<Self> {
        let named = env::var_os("KANIKO_EXECUTOR").filter(|value| !value.is_empty()).map(PathBuf::from);
        let program = named.ok_or_else(|| missing("KANIKO_EXECUTOR does not name an executor", "set it"))?;
        require_root("kaniko")?;
        let folder = site.folder("kaniko")?;
        let inside = folder.join("kept/kaniko");
        for path in [inside.join("ssl/certs"), folder.join("root")] {
            fs::create_dir_all(&path).map_err(Problem::file("make", path))?;
        }
        fs::copy(&program, inside.join("executor")).map_err(Problem::file("read", &program))?;
        if Path::new(AUTHORITIES).exists() {
            let copy = inside.join("ssl/certs/ca-certificates.crt");
            fs::copy(AUTHORITIES, copy).map_err(Problem::file("read", AUTHORITIES))?;
        }
        Ok(Self { folder, mirror: site.bases.to_string() })
    }
}

impl Builder for Kaniko {
    fn name(&self) -> &'static str {
        "kaniko"
    }

    fn version(&self) -> String {
        super::version_of(&self.folder.join("kept/kaniko/executor"), &["version"])
    }

    fn programs(&self) -> &'static [&'static str] {
        &["executor"]
    }

    fn caches(&self) -> bool {
        false
    }

    fn reset(&mut self) -> Outcome {
        Ok(())
    }

    fn build(&self, job: &Job) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", SCRIPT, "sh"]);
        command.arg(self.folder.join("root")).arg(self.folder.join("kept")).arg(&job.context).arg(&job.dockerfile);
        command.args(["--force", "--no-push", "--context=dir:///workspace", "--dockerfile=/kaniko/Dockerfile"]);
        command.args(["--insecure", "--insecure-pull", "--skip-tls-verify", "--verbosity=error"]);
        command.arg(format!("--registry-mirror={}", self.mirror));
        command.env("SSL_CERT_DIR", "/kaniko/ssl/certs");
        command
    }

    fn push(&self, _: &Job, _: &str) -> Outcome<Option<Command>> {
        Ok(None)
    }
}
