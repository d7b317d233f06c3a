//! Whether compiled code fits an interpreter: the tags of wheels and of extension modules.

/// What an interpreter takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Abi {
    /// The minor version of Python 3.
    pub(super) minor: u8,
    /// `x86_64`, `aarch64`
    pub(super) machine: String,
    /// Whether the C library is musl; unknown where an image has both.
    pub(super) musl: Option<bool>,
    /// The middle of its extension modules' names: `cpython-310-x86_64-linux-gnu`. Read off its own library.
    pub(super) extension: Option<String>,
    /// Built without the global lock.
    pub(super) free_threaded: bool,
}

impl Abi {
    /// The endings that its import system looks for, in order.
    pub(super) fn suffixes(&self) -> Vec<String> {
        let mut suffixes = Vec::new();
        if let Some(extension) = &self.extension {
            suffixes.push(format!(".{extension}.so"));
        } else {
            let t = if self.free_threaded { "t" } else { "" };
            for libc in ["gnu", "musl"] {
                if self.musl.is_none_or(|musl| musl == (libc == "musl")) {
                    suffixes.push(format!(".cpython-3{}{t}-{}-linux-{libc}.so", self.minor, self.machine));
                }
            }
        }
        suffixes.push(".abi3.so".into());
        suffixes.push(".so".into());
        suffixes
    }

    /// Why a wheel with these tags (`cp310-cp310-manylinux_2_17_x86_64`) does not fit, if none of them does. `None` also
    /// where that cannot be told.
    pub(super) fn refuses<'t>(&self, tags: impl Iterator<Item = &'t str>) -> Option<String> {
        let mut reason = None;
        for tag in tags {
            let mut parts = tag.rsplitn(3, '-');
            let (Some(platform), Some(abi), Some(python)) = (parts.next(), parts.next(), parts.next()) else {
                return None;
            };
            match self.refuses_tag(python, abi, platform) {
                None => return None,
                Some(why) => reason = Some(why),
            }
        }
        reason
    }

    fn refuses_tag(&self, python: &str, abi: &str, platform: &str) -> Option<String> {
        if platform != "any" {
            let Some(machine) = self.machine_of(platform) else { return Some(format!("is for {platform}")) };
            if !machine {
                return Some(format!("is for another machine ({platform}, not {})", self.machine));
            }
            match self.musl {
                Some(true) if platform.starts_with("manylinux") => {
                    return Some(format!("is for glibc ({platform}), and the image has musl"));
                }
                Some(false) if platform.starts_with("musllinux") => {
                    return Some(format!("is for musl ({platform}), and the image has glibc"));
                }
                _ => {}
            }
        }
        let number = |text: &str| text.trim_end_matches('t').parse::<u8>().ok();
        let fits = python.split('.').any(|one| match one.strip_prefix("cp3").or_else(|| one.strip_prefix("py3")) {
            Some("") => true,
            Some(rest) => match number(rest) {
                None => true,
                Some(minor) if one.starts_with("py") || abi == "abi3" => minor <= self.minor,
                Some(minor) if abi == "none" => minor == self.minor,
                Some(minor) => {
                    let tagged = abi.strip_prefix("cp3").and_then(|abi| number(abi.trim_end_matches(['m', 'd', 'u'])));
                    minor == self.minor
                        && tagged.is_none_or(|tagged| tagged == self.minor)
                        && (!abi.starts_with("cp3") || abi.ends_with('t') == self.free_threaded)
                }
            },
            None => one == "py" || !one.starts_with("py2") && !one.starts_with("cp2") && !one.starts_with("pp"),
        });
        (!fits).then(|| format!("is for another Python ({python}-{abi}, not 3.{})", self.minor))
    }

    /// Whether a platform's machine is this one; `None` for other systems.
    fn machine_of(&self, platform: &str) -> Option<bool> {
        if !platform.starts_with("linux") && !platform.starts_with("manylinux") && !platform.starts_with("musllinux") {
            return None;
        }
        Some(self.machine.is_empty() || platform.ends_with(self.machine.as_str()))
    }

    /// Why an extension module of this name cannot be imported, if its name says so.
    pub(super) fn refuses_extension(&self, name: &str) -> Option<String> {
        let stem = name.strip_suffix(".so")?;
        let tag = stem.split_once('.')?.1;
        if !tag.starts_with("cpython-") || self.suffixes().contains(&format!(".{tag}.so")) {
            return (tag.starts_with("pypy")).then(|| "is for PyPy".into());
        }
        // Old extension modules carry no machine.
        if tag == format!("cpython-3{}", self.minor) {
            return None;
        }
        let t = if self.free_threaded { "t" } else { "" };
        let Some(ours) = &self.extension else {
            let fits = tag.starts_with(&format!("cpython-3{}{t}-", self.minor))
                && tag.contains(&self.machine)
                && self.musl.is_none_or(|musl| !tag.contains(if musl { "linux-gnu" } else { "linux-musl" }));
            return (!fits).then(|| format!("is for `{tag}`, and this is Python 3.{}{t}", self.minor));
        };
        Some(format!("is for `{tag}`, and this Python looks for `{ours}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abi(minor: u8, musl: Option<bool>) -> Abi {
        let libc = if musl == Some(true) { "musl" } else { "gnu" };
        let extension = musl.map(|_| format!("cpython-3{minor}-x86_64-linux-{libc}"));
        Abi { minor, machine: "x86_64".into(), musl, extension, free_threaded: false }
    }

    #[test]
    fn wheels_fit_or_say_why() {
        for (tags, minor, musl, expected) in [
            ("py3-none-any", 10, Some(false), ""),
            ("py2.py3-none-any", 10, Some(true), ""),
            ("py2-none-any", 10, Some(false), "another Python"),
            ("cp310-cp310-manylinux_2_17_x86_64 cp310-cp310-manylinux2014_x86_64", 10, Some(false), ""),
            ("cp311-cp311-manylinux_2_17_x86_64", 10, Some(false), "another Python"),
            ("cp39-abi3-manylinux_2_28_x86_64", 12, Some(false), ""),
            ("cp311-abi3-manylinux_2_28_x86_64", 10, Some(false), "another Python"),
            ("cp310-cp310-musllinux_1_2_x86_64", 10, Some(false), "for musl"),
            ("cp310-cp310-manylinux_2_17_x86_64", 10, Some(true), "for glibc"),
            ("cp310-cp310-manylinux_2_17_x86_64", 10, None, ""),
            ("cp310-cp310-manylinux_2_17_aarch64", 10, Some(false), "another machine"),
            ("cp310-cp310-linux_x86_64", 10, Some(true), ""),
            ("cp313-cp313t-manylinux_2_17_x86_64", 13, Some(false), "another Python"),
            ("cp310-none-manylinux_2_17_x86_64", 10, Some(false), ""),
            ("cp310-cp310-macosx_11_0_arm64", 10, Some(false), "macosx"),
            ("py3-none-manylinux_2_17_x86_64", 10, Some(false), ""),
            ("py312-none-any", 10, Some(false), "another Python"),
            ("nonsense", 10, Some(false), ""),
            ("", 10, Some(false), ""),
        ] {
            let reason = abi(minor, musl).refuses(tags.split_whitespace()).unwrap_or_default();
            assert!(
                reason.contains(expected) && reason.is_empty() == expected.is_empty(),
                "{tags} on 3.{minor}: {reason}"
            );
        }
    }

    #[test]
    fn extension_modules_fit_or_say_why() {
        for (name, fits) in [
            ("_x.cpython-310-x86_64-linux-gnu.so", true),
            ("_x.cpython-311-x86_64-linux-gnu.so", false),
            ("_x.cpython-310-x86_64-linux-musl.so", false),
            ("_x.cpython-310-aarch64-linux-gnu.so", false),
            ("_x.abi3.so", true),
            ("_x.so", true),
            ("libfoo-1.2.so", true),
            ("_x.pypy39-pp73-x86_64-linux-gnu.so", false),
        ] {
            assert_eq!(abi(10, Some(false)).refuses_extension(name).is_none(), fits, "{name}");
        }
        assert_eq!(abi(10, None).refuses_extension("_x.cpython-310-x86_64-linux-musl.so"), None);
    }
}
