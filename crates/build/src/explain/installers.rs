//! Commands that install packages: which files they need, and where they keep what they downloaded.
//!
//! A shell command in; the installers that it runs out, and whether it does anything else. Reads the text only, as
//! words between `;`, `&&`, `||`, pipes and lines: what it cannot follow counts as something else.

/// A program that installs packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Installer {
    /// Its name.
    pub(crate) name: &'static str,
    /// Files that it reads without being told.
    pub(crate) manifests: &'static [&'static str],
    /// Where root's downloads are kept.
    pub(crate) caches: &'static [&'static str],
    /// Options of the cache mounts.
    pub(crate) sharing: &'static str,
    /// An option that keeps the downloads from being kept.
    pub(crate) no_cache: &'static str,
    /// What else is to be done for the downloads to be kept.
    pub(crate) besides: &'static str,
}

/// One use of an installer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) installer: &'static Installer,
    /// The words behind the command.
    pub(crate) words: Vec<String>,
    /// It installs the project in the directory itself: everything may be needed.
    pub(crate) whole: bool,
}

/// The installers in a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) uses: Vec<Use>,
    /// Nothing else is done that could need files.
    pub(crate) only: bool,
}

/// The words that make an installer of a program, and an option without which it installs the project itself.
type Form = (&'static [&'static str], &'static Installer, Option<&'static [&'static str]>);

const fn installer(
    name: &'static str,
    manifests: &'static [&'static str],
    caches: &'static [&'static str],
) -> Installer {
    Installer { name, manifests, caches, sharing: "", no_cache: "", besides: "" }
}

static PIP: Installer = Installer { no_cache: "--no-cache-dir", ..installer("pip", &[], &["/root/.cache/pip"]) };
static UV_PIP: Installer = Installer { no_cache: "--no-cache", ..installer("uv", &[], &["/root/.cache/uv"]) };
static UV: Installer =
    Installer { no_cache: "--no-cache", ..installer("uv", &["pyproject.toml", "uv.lock"], &["/root/.cache/uv"]) };
static POETRY: Installer = Installer {
    no_cache: "--no-cache",
    ..installer("poetry", &["pyproject.toml", "poetry.lock", "poetry.toml"], &["/root/.cache/pypoetry"])
};
static PDM: Installer = installer("pdm", &["pyproject.toml", "pdm.lock"], &["/root/.cache/pdm"]);
static PIPENV: Installer = installer("pipenv", &["Pipfile", "Pipfile.lock"], &["/root/.cache/pipenv"]);
static APT: Installer = Installer {
    sharing: ",sharing=locked",
    besides: "Debian's images delete what apt downloaded: remove /etc/apt/apt.conf.d/docker-clean in the same RUN, and \
              leave out `rm -rf /var/lib/apt/lists/*`",
    ..installer("apt", &[], &["/var/cache/apt", "/var/lib/apt"])
};
static APK: Installer =
    Installer { sharing: ",sharing=locked", no_cache: "--no-cache", ..installer("apk", &[], &["/etc/apk/cache"]) };
static DNF: Installer = Installer { sharing: ",sharing=locked", ..installer("dnf", &[], &["/var/cache/dnf"]) };
static NPM: Installer =
    installer("npm", &["package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"], &["/root/.npm"]);
static YARN: Installer =
    installer("yarn", &["package.json", "yarn.lock", ".yarnrc", ".yarnrc.yml"], &["/usr/local/share/.cache/yarn"]);
static PNPM: Installer = installer(
    "pnpm",
    &["package.json", "pnpm-lock.yaml", "pnpm-workspace.yaml", ".npmrc"],
    &["/root/.local/share/pnpm/store"],
);
static GO: Installer = installer("go", &["go.mod", "go.sum"], &["/go/pkg/mod"]);
static BUNDLE: Installer = installer("bundle", &["Gemfile", "Gemfile.lock"], &[]);
static COMPOSER: Installer = installer("composer", &["composer.json", "composer.lock"], &["/root/.cache/composer"]);

static FORMS: &[Form] = &[
    (&["pip", "install"], &PIP, None),
    (&["pip", "wheel"], &PIP, None),
    (&["pip", "download"], &PIP, None),
    (&["python", "-m", "pip", "install"], &PIP, None),
    (&["uv", "pip", "install"], &UV_PIP, None),
    (&["uv", "pip", "sync"], &UV_PIP, None),
    (&["uv", "sync"], &UV, Some(&["--no-install-project", "--no-install-workspace"])),
    (&["poetry", "install"], &POETRY, Some(&["--no-root", "--only"])),
    (&["pdm", "install"], &PDM, Some(&["--no-self"])),
    (&["pdm", "sync"], &PDM, Some(&["--no-self"])),
    (&["pipenv", "install"], &PIPENV, None),
    (&["pipenv", "sync"], &PIPENV, None),
    (&["apt-get", "install"], &APT, None),
    (&["apt", "install"], &APT, None),
    (&["apk", "add"], &APK, None),
    (&["dnf", "install"], &DNF, None),
    (&["microdnf", "install"], &DNF, None),
    (&["yum", "install"], &DNF, None),
    (&["npm", "ci"], &NPM, None),
    (&["npm", "install"], &NPM, None),
    (&["npm", "i"], &NPM, None),
    (&["yarn", "install"], &YARN, None),
    (&["pnpm", "install"], &PNPM, None),
    (&["pnpm", "i"], &PNPM, None),
    (&["pnpm", "fetch"], &PNPM, None),
    (&["go", "mod", "download"], &GO, None),
    (&["bundle", "install"], &BUNDLE, None),
    (&["composer", "install"], &COMPOSER, None),
];
/// Programs that need no file of the context, whatever their words are.
const HARMLESS: [&str; 8] = ["set", "echo", "mkdir", "rm", "true", "cd", "export", "update-ca-certificates"];
/// The same of package managers, by their second word.
const HARMLESS_WORDS: [&str; 6] = ["update", "upgrade", "clean", "autoremove", "config", "makecache"];

/// What a shell command installs.
pub(crate) fn find(command: &str) -> Found {
    let mut found = Found { uses: Vec::new(), only: true };
    for simple in split(command) {
        let mut words = simple.split_whitespace().map(unquoted).peekable();
        while words.next_if(|word| word == "exec" || word == "sudo" || is_assignment(word)).is_some() {}
        let words: Vec<String> = words.collect();
        let Some(program) = words.first().map(|word| program(word)) else { continue };
        // Options stand anywhere: `apt-get -y install`.
        let plain: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        let Some((form, installer, outside)) = FORMS.iter().find(|(form, ..)| fits(form, &program, &plain)) else {
            found.only &= is_harmless(&program, &plain);
            continue;
        };
        let words: Vec<String> =
            plain.iter().filter(|word| !form.contains(word)).map(|&word| word.to_owned()).collect();
        let dot =
            |word: &String| word == "." || word.starts_with("./") && word.ends_with('/') || word.starts_with(".[");
        let project = outside.is_some_and(|options| !words.iter().any(|word| options.contains(&word.as_str())));
        let whole = project || words.iter().any(dot);
        found.uses.push(Use { installer, words, whole });
    }
    found.only &= !found.uses.is_empty();
    found
}

/// Whether a command that installs nothing needs no file of the context either.
fn is_harmless(program: &str, words: &[&str]) -> bool {
    let manager = FORMS.iter().any(|(form, ..)| form.first() == Some(&program));
    let second = words.iter().find(|word| !word.starts_with('-'));
    HARMLESS.contains(&program) || manager && second.is_some_and(|word| HARMLESS_WORDS.contains(word))
}

/// `pip3.11` is pip, `/usr/bin/python3` is python.
fn program(word: &str) -> String {
    let name = word.rsplit('/').next().unwrap_or(word);
    for known in ["pip", "python"] {
        if let Some(version) = name.strip_prefix(known)
            && version.chars().all(|c| c.is_ascii_digit() || c == '.')
        {
            return known.to_owned();
        }
    }
    name.to_owned()
}

fn fits(form: &[&str], program: &str, words: &[&str]) -> bool {
    let Some((first, rest)) = form.split_first() else { return false };
    let mut wanted = rest.iter().peekable();
    for word in words {
        match wanted.peek() {
            Some(next) if **next == *word => drop(wanted.next()),
            // Another word where a command's name should be: another command.
            Some(_) if !word.starts_with('-') => return false,
            Some(_) => {}
            None => break,
        }
    }
    *first == program && wanted.peek().is_none()
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn unquoted(word: &str) -> String {
    word.trim_matches(['"', '\'']).to_owned()
}

/// The simple commands of a line, without looking into quotes.
fn split(command: &str) -> Vec<&str> {
    let command = command.trim();
    let parts = command.split(['\n', ';', '&', '|']);
    parts.map(str::trim).filter(|part| !part.is_empty() && !part.starts_with('#')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installers_are_found_and_what_else_is_done() {
        for (command, names, whole, only) in [
            ("pip install -r requirements.txt", &["pip"] as &[_], false, true),
            ("PIP_X=1 /usr/bin/python3.11 -m pip install --no-cache-dir -r r.txt", &["pip"], false, true),
            ("pip install .", &["pip"], true, true),
            ("pip install -e ./pkg/", &["pip"], true, true),
            ("pip install '.[dev]'", &["pip"], true, true),
            ("apt-get update && apt-get -y install gcc && rm -rf /var/lib/apt/lists/*", &["apt"], false, true),
            ("pip install -r r.txt && python manage.py collectstatic", &["pip"], false, false),
            ("set -ex; apt-get install -y x\nmake", &["apt"], false, false),
            ("uv sync --frozen --no-install-project", &["uv"], false, true),
            ("uv sync --frozen", &["uv"], true, true),
            ("poetry config a b && poetry install --no-root", &["poetry"], false, true),
            ("npm ci", &["npm"], false, true),
            ("npm run build", &[], false, false),
            ("go build ./...", &[], false, false),
            ("pip list install", &[], false, false),
            ("echo hello", &[], false, false),
            ("", &[], false, false),
        ] {
            let found = find(command);
            let got: Vec<&str> = found.uses.iter().map(|found| found.installer.name).collect();
            assert_eq!(got, names, "{command}");
            assert_eq!((found.uses.iter().any(|found| found.whole), found.only), (whole, only), "{command}");
        }
    }
}
