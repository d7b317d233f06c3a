//! A case as `verdicts/*.toml` says it: an image as a Dockerfile, what must be found, and how it is confirmed.
//!
//! In: the folder. Out: typed cases in the order of the files. What is written is read strictly, so that no expectation is
//! passed over. `{port}` in a Dockerfile and its files is a port of the case's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::Outcome;
use crate::problem::Problem;

/// The first port that cases listen on; below those that kernels give out by themselves.
const FIRST_PORT: u16 = 21_300;

/// An image and its verdict.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    /// What is broken, or what the image has.
    pub(super) what: String,
    pub(super) dockerfile: String,
    /// The context: path and text.
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    /// Files of the context that have the execute bit.
    #[serde(default)]
    pub(super) executable: Vec<String>,
    /// The rules at error level, all of them. None: the image is sound.
    #[serde(default)]
    pub(super) errors: BTreeSet<String>,
    /// What the advice of one of the errors says, in its sentence or its lines.
    pub(super) advice: Option<String>,
    /// With the patch that `kuz verify --fix` gives, the image is sound and its command succeeds.
    #[serde(default)]
    pub(super) mended: bool,
    /// The build fails for it, with its default settings.
    #[serde(default)]
    pub(super) refused: bool,
    pub(super) run: Run,
    #[serde(skip)]
    pub(super) port: u16,
}

/// How a verdict is confirmed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Run {
    /// Words in place of CMD.
    pub(super) args: Vec<String>,
    /// What it prints, or what the answer has in it.
    pub(super) says: String,
    /// The path that a server is asked for; none where the command ends by itself.
    pub(super) get: Option<String>,
    /// The case is about a file that a layer holds, and this is the path: its layer is read, and its text has `says`.
    pub(super) layer: Option<String>,
}

/// One file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    case: Vec<Case>,
}

impl Case {
    /// Whether something is wrong with the image.
    pub(super) fn is_broken(&self) -> bool {
        !self.errors.is_empty()
    }

    /// A text of the case with its port.
    pub(super) fn text(&self, text: &str) -> String {
        text.replace("{port}", &self.port.to_string())
    }
}

/// All cases of a folder.
pub(super) fn read(folder: &Path) -> Outcome<Vec<Case>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Problem::file("list", folder))? {
        let path = entry.map_err(Problem::file("list", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(Problem::file("read", &path))?;
        let page = parse(&text).map_err(|error| Problem::Answer(format!("{}: {error}", path.display())))?;
        cases.extend(page);
    }
    let mut names = BTreeSet::new();
    for (case, port) in cases.iter_mut().zip(FIRST_PORT..) {
        case.port = port;
        if !names.insert(case.name.clone()) {
            return Err(Problem::Answer(format!("two cases are called {}", case.name)));
        }
    }
    Ok(cases)
}

fn parse(text: &str) -> Result<Vec<Case>, String> {
    let page: Page = toml::from_str(text).map_err(|error| error.to_string())?;
    for case in &page.case {
        let problem = if case.run.says.is_empty() {
            "says nothing of what is seen when it runs"
        } else if case.is_broken() != case.advice.is_some() {
            "must have an advice if something is broken, and none if not"
        } else if !case.is_broken() && (case.mended || case.refused) {
            "is sound: there is nothing to mend or to refuse"
        } else {
            continue;
        };
        return Err(format!("`{}` {problem}", case.name));
    }
    Ok(page.case)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_case_must_and_must_not_say() {
        let case = |more: &str, says: &str| {
            format!(
                "[[case]]\nname = 'a'\nwhat = 'b'\ndockerfile = 'FROM scratch'\n{more}\nrun = {{ says = '{says}' }}\n"
            )
        };
        for (more, says, right) in [
            ("", "1", true),
            ("errors = ['X']\nadvice = 'y'\nmended = true", "1", true),
            ("", "", false),
            ("errors = ['X']", "1", false),
            ("advice = 'y'", "1", false),
            ("mended = true", "1", false),
            ("error = ['X']", "1", false),
        ] {
            assert_eq!(parse(&case(more, says)).is_ok(), right, "{more}");
        }
    }
}
