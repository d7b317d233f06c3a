//! Flags that `docker buildx build` has and that cannot be honoured here: each is an error that says why and what to do
//! instead, never ignored and never just unknown.
//!
//! A table of data; what is asked for off (`--provenance=false`) is what happens anyway, and passes.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// A flag, its letter, whether it has a value, and why it cannot be honoured.
type Row = (&'static str, Option<char>, bool, &'static str);

/// Steps run without control groups of their own.
const LIMITS: &str = "limits of memory and processors need a control group, which an ordinary user does not have \
                      (--ulimit limits processes; run kuz itself under `systemd-run --user -p MemoryMax=…`)";

/// Caches of builds elsewhere.
const CACHES: &str = "the cache of steps is this machine's, in KUZ_STORE: it is neither fetched nor sent (keep that directory \
                      between builds)";

const FLAGS: [Row; 23] = [
    ("resource", None, true, LIMITS),
    ("memory", Some('m'), true, LIMITS),
    ("memory-swap", None, true, LIMITS),
    ("cpu-shares", Some('c'), true, LIMITS),
    ("cpu-period", None, true, LIMITS),
    ("cpu-quota", None, true, LIMITS),
    ("cpuset-cpus", None, true, LIMITS),
    ("cpuset-mems", None, true, LIMITS),
    ("cgroup-parent", None, true, LIMITS),
    ("cache-from", None, true, CACHES),
    ("cache-to", None, true, CACHES),
    ("isolation", None, true, "it is for Windows; steps always run in a user namespace"),
    ("builder", None, true, "there is no daemon to choose: kuz builds by itself"),
    ("security-opt", None, true, "it is for Windows; steps always run with the sandbox's own limits"),
    ("squash", None, false, "layers are kept apart, one a step; a last stage that copies what it needs has few"),
    ("debug", Some('D'), false, "there is no log of the builder: `--progress plain` shows all output of the steps"),
    ("print", None, false, "it is called --call now: --call=outline, --call=targets"),
    (
        "invoke",
        None,
        true,
        "no failed step can be entered: start the image of the stage before (kuz build --target, kuz run)",
    ),
    ("root", None, true, "there is no daemon whose root could be chosen: KUZ_STORE says where images are kept"),
    (
        "attest",
        None,
        true,
        "attestations are not made: the image is a plain manifest, which every registry and tool reads",
    ),
    ("sbom", None, false, "lists of packages are not made: run a scanner on the image (kuz image save)"),
    (
        "provenance",
        None,
        false,
        "provenance is not recorded: the image is a plain manifest, which every registry and tool reads",
    ),
    ("policy", None, true, "policies for sources are not evaluated: pin bases by digest in the Dockerfile"),
];

/// Flags of what happens anyway; off, they cannot be honoured.
const ALWAYS: [(&str, &str); 3] = [
    ("rm", "containers of steps are never kept"),
    ("force-rm", "containers of steps are never kept"),
    ("compress", "the context is read where it is, and sent nowhere"),
];

/// The first flag of the table that was given.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    message: Option<String>,
}

impl Refused {
    /// An error if there is one.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.message.clone().map_or(Ok(()), Err)
    }
}

impl FromArgMatches for Refused {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let is_off = |value: &String| {
            matches!(value.as_str(), "false" | "0" | "default" | "none")
                || value.split(',').any(|part| part == "disabled=true")
        };
        let given = |(name, _, _, why): &Row| {
            let mut values = matches.get_many::<String>(name)?;
            (!values.all(is_off)).then(|| format!("`--{name}`: {why}"))
        };
        let off = |(name, why): &(&str, &str)| {
            let mut values = matches.get_many::<String>(name)?;
            values.any(is_off).then(|| format!("`--{name}=false`: {why}"))
        };
        Ok(Self { message: FLAGS.iter().find_map(given).or_else(|| ALWAYS.iter().find_map(off)) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Refused {
    fn augment_args(command: Command) -> Command {
        let flag = |name: &'static str, has_value: bool| {
            let flag = Arg::new(name).long(name).action(ArgAction::Append).num_args(0..=1).hide(true);
            flag.default_missing_value("true").require_equals(!has_value)
        };
        let refused = FLAGS.iter().map(move |(name, letter, has_value, _)| match letter {
            Some(letter) => flag(name, *has_value).short(*letter),
            None => flag(name, *has_value),
        });
        command.args(refused).args(ALWAYS.iter().map(|(name, _)| flag(name, false)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_flags_say_why_they_cannot_be_honoured() {
        for (words, part) in [
            (&["--resource", "memory=1g"][..], Some("`--resource`: limits of memory")),
            (&["-m", "1g"], Some("`--memory`: limits")),
            (&["--attest=type=sbom"], Some("`--attest`: attestations")),
            (&["--provenance"], Some("`--provenance`: provenance")),
            (&["--cache-from", "type=registry,ref=a/b"], Some("`--cache-from`: the cache")),
            (&["-D"], Some("`--debug`: there is no log")),
            (&["--squash"], Some("`--squash`: layers")),
            (&["--rm=false"], Some("`--rm=false`: containers")),
            (&["--attest=type=sbom,disabled=true", "--attest=type=provenance"], Some("`--attest`")),
            (&["--provenance=false", "--sbom=false", "--builder=default"], None),
            (&["--rm", "--force-rm", "--attest=type=provenance,disabled=true"], None),
            (&[], None),
        ] {
            let command = Refused::augment_args(Command::new("build").no_binary_name(true));
            let refused = Refused::from_arg_matches(&command.get_matches_from(words)).unwrap().check();
            match part {
                None => assert_eq!(refused, Ok(()), "{words:?}"),
                Some(part) => assert!(refused.as_ref().is_err_and(|message| message.contains(part)), "{refused:?}"),
            }
        }
    }
}
