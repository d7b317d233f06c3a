//! `kuz plan`: what a build would do, every step expanded and the final configuration folded; nothing is built.
//!
//! Base images are looked up as a build does it (store, then registry), without their layers. The plan goes to standard
//! output, findings to standard error.

use kuz_build::contract::InputData;
use kuz_build::request::BuildRequest;
use kuz_build::{Platform, print as printed};

use super::build::{build_args, network, pair};
use super::{print, print_json, shown};
use crate::args::{Format, PlanArgs, ProgressArg};
use crate::progress::Progress;
use crate::{exit_code, machine, named, signals};

/// Runs the command.
pub(crate) fn run(arguments: &PlanArgs) -> u8 {
    let progress = Progress::new(ProgressArg::Auto, false);
    let ready = request(arguments).and_then(|request| Ok((request, machine::read()?)));
    let (request, machine) = match ready {
        Ok(ready) => ready,
        Err(message) => {
            progress.say(&format!("error: {message}"));
            return exit_code::USAGE;
        }
    };
    let cancel = signals::listen(false);
    let outcome = kuz_build::plan(&request, &machine, &cancel, &|event| progress.on(&event));
    progress.close();
    let outcome = outcome.and_then(|plan| match arguments.format {
        Format::Text => print(&printed::text(&plan)),
        Format::Json => print_json(&plan),
    });
    match outcome {
        Ok(()) => exit_code::SUCCESS,
        Err(failure) => shown(&failure, &progress),
    }
}

fn request(arguments: &PlanArgs) -> Result<BuildRequest, String> {
    let platform = arguments
        .platform
        .as_deref()
        .map(|text| text.parse::<Platform>().map_err(|error| format!("`--platform {text}`: {error}")));
    Ok(BuildRequest {
        input: InputData {
            dockerfile_path: arguments.file.clone().unwrap_or_else(|| "Dockerfile".into()),
            build_context: Some(arguments.context.clone()),
            build_args: Some(build_args(&arguments.build_args)?),
            tag: None,
        },
        dockerfile_given: arguments.file.is_some(),
        target: arguments.target.clone(),
        platform: platform.transpose()?,
        network: network(arguments.network),
        labels: arguments.labels.iter().map(|label| pair("--label", label)).collect::<Result<_, _>>()?,
        pull: arguments.pull,
        contexts: named::contexts(&arguments.contexts)?,
        ..BuildRequest::default()
    })
}
