//! What `cargo xtask bench` is asked for.

use std::path::PathBuf;

use super::builders::PEERS;
use super::workloads::NAMES;

/// A part beside the workloads.
pub(super) const GROWTH: &str = "growth";
/// Rounds of each workload.
const RUNS: usize = 3;
/// More rounds than anybody waits for.
const MOST_RUNS: usize = 100;

/// A word of the command line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Request {
    /// Measure.
    Measure(Options),
    /// Count instructions anew and keep them.
    RenewGate,
    /// Count instructions and compare.
    Gate,
    /// Draw a flame graph of a cold build.
    Profile,
    /// Time one command: for the bench itself.
    Clock(Vec<String>),
}

/// What and how to measure.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    /// Names of parts.
    pub(super) only: Vec<String>,
    pub(super) runs: usize,
    pub(super) peers: Vec<String>,
    /// Whether peers were named: then all that were are measured in every part.
    pub(super) named: bool,
    pub(super) quick: bool,
    pub(super) full: bool,
    pub(super) out: Option<PathBuf>,
    pub(super) write: bool,
}

impl Request {
    /// Names the first word that means nothing.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        if let ["clock", rest @ ..] = words {
            return Ok(Self::Clock(rest.iter().map(|word| (*word).to_owned()).collect()));
        }
        if words == ["--renew-gate"] {
            return Ok(Self::RenewGate);
        }
        if words == ["--profile"] {
            return Ok(Self::Profile);
        }
        if words == ["--gate"] {
            return Ok(Self::Gate);
        }
        let parts: Vec<&str> = NAMES.iter().copied().chain([GROWTH]).collect();
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut options = Options {
            only: all(&parts),
            runs: RUNS,
            peers: all(&PEERS),
            named: false,
            quick: false,
            full: false,
            out: None,
            write: false,
        };
        let mut runs = None;
        for word in words {
            let wrong = || (*word).to_owned();
            match word.split_once('=') {
                Some(("--only", names)) => options.only = chosen(names, &parts).ok_or_else(wrong)?,
                Some(("--peers", "none")) => options.peers = Vec::new(),
                Some(("--peers", names)) => {
                    options.peers = chosen(names, &PEERS).ok_or_else(wrong)?;
                    options.named = true;
                }
                Some(("--runs", number)) => {
                    let number = number.parse().ok().filter(|number| (1..=MOST_RUNS).contains(number));
                    runs = Some(number.ok_or_else(wrong)?);
                }
                Some(("--out", folder)) if !folder.is_empty() => options.out = Some(folder.into()),
                None if *word == "--quick" => options.quick = true,
                None if *word == "--full" => options.full = true,
                None if *word == "--write" => options.write = true,
                _ => return Err(wrong()),
            }
        }
        options.runs = runs.unwrap_or(if options.quick { 1 } else { RUNS });
        Ok(Self::Measure(options))
    }
}

/// Names with commas between them, if all are known.
fn chosen(names: &str, known: &[&str]) -> Option<Vec<String>> {
    names.split(',').map(|name| known.contains(&name).then(|| name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_choose_parts_peers_and_rounds() {
        let Ok(Request::Measure(all)) = Request::parse(&[]) else { panic!("no options are options") };
        assert_eq!((all.only.len(), all.peers.len(), all.runs, all.write), (5, 5, RUNS, false));
        assert!(!all.named);
        let words = ["--only=recipe,growth", "--peers=docker,buildah", "--quick", "--out=x", "--write", "--full"];
        let Ok(Request::Measure(some)) = Request::parse(&words) else { panic!("{words:?}") };
        assert_eq!(
            (some.only, some.peers),
            (vec!["recipe".into(), "growth".into()], vec!["docker".into(), "buildah".into()])
        );
        assert_eq!((some.runs, some.quick, some.full, some.write, some.out), (1, true, true, true, Some("x".into())));
        let Ok(Request::Measure(none)) = Request::parse(&["--peers=none", "--quick", "--runs=7"]) else { panic!() };
        assert_eq!((none.peers.len(), none.runs), (0, 7));
    }

    #[test]
    fn words_without_a_meaning_are_named() {
        for word in ["--only=x", "--peers=kuz", "--runs=0", "--runs=x", "--out=", "--fast", "recipe", "--renew-gate=1"]
        {
            assert_eq!(Request::parse(&[word]), Err(word.to_owned()));
        }
        assert_eq!(Request::parse(&["--renew-gate"]), Ok(Request::RenewGate));
        assert_eq!(Request::parse(&["--gate"]), Ok(Request::Gate));
        assert_eq!(Request::parse(&["clock", "a", "--x"]), Ok(Request::Clock(vec!["a".into(), "--x".into()])));
    }
}
