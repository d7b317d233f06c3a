//! Flags that `docker buildx build` has and that cannot be honoured here: each is an error that says why and what to do
//! instead, never ignored and never just unknown.
//!
//! A table of data; what is asked for off (`--provenance=false`) is what happens anyway, and passes.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// A flag, its letter, and why it cannot be honoured.
type Row = (&'static str, Option<char>, &'static str);

/// Steps run without control groups of their own.
const LIMITS: &str = "limits of memory and processors need a control group, which an ordinary user does not have \
                      (--ulimit limits processes; run kuz itself under `systemd-run --user -p MemoryMax=…`)";

const FLAGS: [Row; 15] = [
    ("resource", None, LIMITS),
    ("memory", Some('m'), LIMITS),
    ("memory-swap", None, LIMITS),
    ("cpu-shares", Some('c'), LIMITS),
    ("cpu-period", None, LIMITS),
    ("cpu-quota", None, LIMITS),
    ("cpuset-cpus", None, LIMITS),
    ("cpuset-mems", None, LIMITS),
    ("cgroup-parent", None, LIMITS),
    ("isolation", None, "it is for Windows; steps always run in a user namespace"),
    ("builder", None, "there is no daemon to choose: kuz builds by itself"),
    ("attest", None, "attestations are not made: the image is a plain manifest, which every registry and tool reads"),
    ("sbom", None, "lists of packages are not made: run a scanner on the image (kuz image save)"),
    (
        "provenance",
        None,
        "provenance is not recorded: the image is a plain manifest, which every registry and tool reads",
    ),
    ("policy", None, "policies for sources are not evaluated: pin bases by digest in the Dockerfile"),
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
        let given = |(name, _, why): &Row| {
            let values: Vec<&String> = matches.get_many::<String>(name)?.collect();
            let is_off = |value: &&String| matches!(value.as_str(), "false" | "0" | "default" | "none");
            (!values.iter().all(is_off)).then(|| format!("`--{name}`: {why}"))
        };
        Ok(Self { message: FLAGS.iter().find_map(given) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Refused {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(|(name, letter, _)| {
            let flag = Arg::new(*name).long(*name).action(ArgAction::Append).num_args(0..=1).hide(true);
            let flag = flag.default_missing_value("true").require_equals(matches!(*name, "sbom" | "provenance"));
            match letter {
                Some(letter) => flag.short(*letter),
                None => flag,
            }
        }))
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
            (&["--provenance=false", "--sbom=false", "--builder=default"], None),
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
