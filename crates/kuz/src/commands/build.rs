//! `kuz build`: arguments to a request, a build to one JSON object and the files that were asked for.
//!
//! The pipeline is `kuz_build::build`; here are only the edges: reading flags, progress, result, exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kuz_build::contract::{InputData, OutputResult};
use kuz_build::event::Event;
use kuz_build::request::{Allowed, BuildRequest, Dest, OutputSpec, Verify};
use kuz_build::smoke::SmokeRequest;
use kuz_build::{Built, Network, Platform, Reference};

use super::passed;
use crate::args::{BuildArgs, NetworkArg, SmokeArgs, VerifyArg};
use crate::progress::Progress;
use crate::{exit_code, machine, named, render, result, signals, sizes};

/// Runs the command.
pub(crate) fn run(arguments: &BuildArgs) -> u8 {
    let progress = Progress::new(arguments.progress, arguments.quiet);
    let request = match request(arguments) {
        Ok(request) => request,
        Err(message) => {
            progress.say(&format!("error: {message}"));
            result::fail(&message);
            return exit_code::USAGE;
        }
    };
    // `--call build` asks for what is done anyway.
    let call = arguments.call.as_deref().filter(|call| *call != "build");
    if arguments.check || call.is_some() {
        return super::check::called(call.unwrap_or("check"), &request, &progress);
    }
    if request.outputs.iter().any(to_stdout) {
        result::stdout_is_taken();
    }
    let machine = match machine::read() {
        Ok(machine) => machine,
        Err(message) => {
            progress.say(&format!("error: {message}"));
            result::fail(&message);
            return exit_code::USAGE;
        }
    };
    // What an earlier build wrote there must not pass for this one's.
    for stale in [&arguments.iidfile, &arguments.metadata_file].into_iter().flatten() {
        let _ = std::fs::remove_file(stale);
    }
    let cancel = signals::listen_loosely(true);
    let explanation = Mutex::new(None);
    let outcome = kuz_build::build(&request, &machine, &cancel, &|event| match event {
        Event::Explained(found) => *explanation.lock().unwrap_or_else(PoisonError::into_inner) = Some(found),
        event => progress.on(&event),
    });
    progress.close();
    if let Some(found) = explanation.into_inner().unwrap_or_else(PoisonError::into_inner) {
        progress.say(&super::explain::text(&found));
    }
    let outcome = outcome.and_then(|built| write_files(arguments, &request, &built).map(|()| built));
    match outcome {
        Ok(built) => {
            let written = result::write(&OutputResult {
                image_id: built.image_id.to_string(),
                tag: request.input.tag.clone(),
                size: built.size,
                success: true,
                message: built.message,
            });
            if written { exit_code::SUCCESS } else { exit_code::STORE }
        }
        Err(failure) => {
            let code = match failure.class() {
                kuz_build::error::Class::Cancelled => signals::exit_code(),
                class => exit_code::of(class),
            };
            progress.say(&render::error(&failure, progress.colour()));
            result::fail(&failure.one_line());
            code
        }
    }
}

fn to_stdout(output: &OutputSpec) -> bool {
    matches!(output, OutputSpec::Oci { dest: Dest::Stdout, .. } | OutputSpec::Docker { dest: Dest::Stdout, .. })
}

/// `--iidfile` and `--metadata-file`, with the keys that buildx writes.
fn write_files(
    arguments: &BuildArgs,
    request: &BuildRequest,
    built: &Built,
) -> Result<(), kuz_build::error::BuildError> {
    if let Some(path) = &arguments.iidfile {
        write(path, &built.image_id.to_string())?;
    }
    if let Some(path) = &arguments.metadata_file {
        let mut metadata = serde_json::json!({
            "containerimage.config.digest": built.image_id.to_string(),
            "containerimage.digest": built.manifest.digest.to_string(),
            "containerimage.descriptor": built.manifest,
        });
        if let (Some(map), false) = (metadata.as_object_mut(), request.tags.is_empty()) {
            map.insert("image.name".into(), built.names.join(",").into());
        }
        write(path, &(serde_json::to_string_pretty(&metadata).unwrap_or_default() + "\n"))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), kuz_build::error::BuildError> {
    std::fs::write(path, text)
        .map_err(|error| kuz_build::error::BuildError::store(format!("write `{}`", path.display()), error))
}

/// The flags as a request, or what is wrong with them and what to do.
pub(crate) fn request(arguments: &BuildArgs) -> Result<BuildRequest, String> {
    arguments.refused.check()?;
    let build_args = build_args(&arguments.build_args)?;
    let (outputs, named) = outputs(arguments)?;
    let tags: Vec<String> = arguments.tags.iter().cloned().chain(named).collect();
    for tag in &tags {
        let reference: Reference = tag.parse().map_err(|error| format!("`-t {tag}`: {error}"))?;
        if reference.digest().is_some() {
            return Err(format!("`-t {tag}`: a tag cannot have a digest (leave out what follows the @)"));
        }
    }
    let platform = match &arguments.platform {
        None => None,
        Some(text) if text.contains(',') => {
            return Err(format!(
                "`--platform {text}`: several platforms in one build are not supported yet (name one)"
            ));
        }
        Some(text) => Some(text.parse::<Platform>().map_err(|error| format!("`--platform`: {error}"))?),
    };
    let mut all_args = build_args;
    if let Some(epoch) = std::env::var("SOURCE_DATE_EPOCH").ok().filter(|epoch| !epoch.is_empty()) {
        all_args.entry("SOURCE_DATE_EPOCH".into()).or_insert(epoch);
    }
    passed::check_grants(&arguments.allow)?;
    if outputs.contains(&OutputSpec::Push) && tags.is_empty() {
        return Err("`--push` needs a name to push to: add -t REGISTRY/NAME:TAG".into());
    }
    Ok(BuildRequest {
        input: InputData {
            dockerfile_path: arguments.file.clone().unwrap_or_else(|| "Dockerfile".into()),
            build_context: Some(arguments.context.clone()),
            build_args: Some(all_args),
            tag: tags.first().cloned(),
        },
        dockerfile_given: arguments.file.is_some(),
        tags,
        target: arguments.target.clone(),
        no_cache: arguments.no_cache,
        jobs: if arguments.jobs == 0 { usize::MAX } else { arguments.jobs },
        no_cache_stages: arguments.no_cache_filter.iter().map(|name| name.to_lowercase()).collect::<BTreeSet<_>>(),
        pull: arguments.pull,
        platform,
        network: network(arguments.network),
        labels: arguments.labels.iter().map(|label| pair("--label", label)).collect::<Result<_, _>>()?,
        hosts: arguments.hosts.iter().map(|host| host_line(host)).collect::<Result<_, _>>()?,
        shm_size: arguments.shm_size.as_deref().map(sizes::parse).transpose()?,
        ulimits: arguments.ulimits.iter().map(|text| passed::ulimit(text)).collect::<Result<_, _>>()?,
        secrets: passed::secrets(&arguments.secrets, &|name| std::env::var_os(name))?,
        ssh: passed::agents(&arguments.ssh, &|name| std::env::var_os(name))?,
        outputs,
        contexts: named::contexts(&arguments.contexts)?,
        annotations: named::annotations(&arguments.annotations)?,
        explain: arguments.explain,
        allowed_secrets: Allowed::new(&arguments.allowed_secrets)?,
        verify: match arguments.verify {
            VerifyArg::Off => Verify::Off,
            VerifyArg::Warn => Verify::Warn,
            VerifyArg::Error => Verify::Error,
        },
        smoke: smoke(&arguments.smoke, arguments.network),
    })
}

/// The network that a flag means.
pub(crate) fn network(asked: NetworkArg) -> Network {
    match asked {
        NetworkArg::Default | NetworkArg::Host => Network::Host,
        NetworkArg::None => Network::None,
    }
}

/// The smoke run that is asked for, if any. It has a network of its own unless the machine's is asked for by name.
pub(crate) fn smoke(asked: &SmokeArgs, network: NetworkArg) -> Option<SmokeRequest> {
    let network = if network == NetworkArg::Host { Network::Host } else { Network::None };
    Some(SmokeRequest { window: asked.smoke?, health: asked.health.clone(), network })
}

/// `NAME=VALUE`, or `NAME` with the value of the environment; a name that is not set there is left out.
pub(crate) fn build_args(words: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    for word in words {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), std::env::var(word).ok()),
        };
        if name.is_empty() {
            return Err(format!("`--build-arg {word}` has no name (want NAME=VALUE)"));
        }
        if let Some(value) = value {
            values.insert(name.to_owned(), value);
        }
    }
    Ok(values)
}

pub(crate) fn pair(flag: &str, word: &str) -> Result<(String, String), String> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        None if !word.is_empty() => Ok((word.to_owned(), String::new())),
        _ => Err(format!("`{flag} {word}` has no key (want KEY=VALUE)")),
    }
}

fn host_line(word: &str) -> Result<(String, String), String> {
    let (host, address) = word
        .split_once(['=', ':'])
        .filter(|(host, _)| !host.is_empty())
        .ok_or_else(|| format!("`--add-host {word}` is no HOST:IP"))?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    address
        .parse::<std::net::IpAddr>()
        .map(|address| (host.to_owned(), address.to_string()))
        .map_err(|_| format!("`--add-host {word}`: `{address}` is no IP address"))
}

/// The outputs, and names that they give the image.
fn outputs(arguments: &BuildArgs) -> Result<(Vec<OutputSpec>, Vec<String>), String> {
    let (mut outputs, mut names) = (Vec::new(), Vec::new());
    for spec in &arguments.outputs {
        let (made, name) = output(spec)?;
        outputs.extend(made);
        names.extend(name);
    }
    if arguments.push && !outputs.contains(&OutputSpec::Push) {
        outputs.push(OutputSpec::Push);
    }
    if arguments.load && !outputs.contains(&OutputSpec::Load) {
        outputs.push(OutputSpec::Load);
    }
    if outputs.iter().filter(|output| to_stdout(output)).count() > 1 {
        return Err("only one output can go to standard output".into());
    }
    Ok((outputs, names))
}

/// One `-o`: comma-separated keys, as buildx names them. A key that cannot be honoured is an error.
fn output(spec: &str) -> Result<(Option<OutputSpec>, Option<String>), String> {
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    for part in spec.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| {
            let files = "a directory alone stands for the image's files, type=local, which is not supported yet";
            format!("`-o {spec}`: `{part}` is no KEY=VALUE (want for example type=oci,dest=image.tar; {files})")
        })?;
        if keys.insert(key, value).is_some() {
            return Err(format!("`-o {spec}`: `{key}` stands twice"));
        }
    }
    let flag = |keys: &mut BTreeMap<&str, &str>, key: &str, default: bool| match keys.remove(key) {
        None => Ok(default),
        Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("`-o {spec}`: {key}={other} is neither true nor false")),
    };
    let kind = keys.remove("type").ok_or_else(|| format!("`-o {spec}` has no type="))?;
    let name = keys.remove("name").map(str::to_owned);
    let made = match kind {
        "oci" | "docker" => {
            let tar = flag(&mut keys, "tar", true)?;
            let dest = match keys.remove("dest") {
                None if kind == "docker" && tar => return no_more(spec, &keys, Some(OutputSpec::Load), name),
                None | Some("-") if tar => Dest::Stdout,
                None | Some("-") => return Err(format!("`-o {spec}`: a directory needs dest=PATH")),
                Some(path) => Dest::Path(PathBuf::from(path)),
            };
            Some(if kind == "oci" { OutputSpec::Oci { dest, tar } } else { OutputSpec::Docker { dest, tar } })
        }
        "image" => flag(&mut keys, "push", false)?.then_some(OutputSpec::Push),
        "registry" => Some(OutputSpec::Push),
        "local" | "tar" | "cacheonly" => return Err(format!("`-o {spec}`: type={kind} is not supported yet")),
        other => return Err(format!("`-o {spec}`: no type `{other}` (want oci, docker, image or registry)")),
    };
    no_more(spec, &keys, made, name)
}

fn no_more(
    spec: &str,
    keys: &BTreeMap<&str, &str>,
    made: Option<OutputSpec>,
    name: Option<String>,
) -> Result<(Option<OutputSpec>, Option<String>), String> {
    match keys.keys().next() {
        Some(key) => Err(format!("`-o {spec}`: `{key}` is not supported")),
        None => Ok((made, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_buildx_reads_them() {
        let path = |text: &str| Dest::Path(PathBuf::from(text));
        for (spec, want) in [
            ("type=oci,dest=a.tar", Some(OutputSpec::Oci { dest: path("a.tar"), tar: true })),
            ("type=docker,tar=false,dest=d", Some(OutputSpec::Docker { dest: path("d"), tar: false })),
            ("type=oci,dest=-", Some(OutputSpec::Oci { dest: Dest::Stdout, tar: true })),
            ("type=docker", Some(OutputSpec::Load)),
            ("type=image", None),
            ("type=image,push=true", Some(OutputSpec::Push)),
            ("type=registry", Some(OutputSpec::Push)),
        ] {
            assert_eq!(output(spec), Ok((want, None)), "{spec}");
        }
        let named = output("type=image,name=reg.example/a:1,push=true");
        assert_eq!(named, Ok((Some(OutputSpec::Push), Some("reg.example/a:1".to_owned()))));
        for bad in [
            "",
            "oci",
            "dest=a",
            "type=x",
            "type=oci,tar=maybe,dest=a",
            "type=oci,dest=a,compression=zstd",
            "type=oci,tar=false",
        ] {
            assert!(output(bad).is_err(), "{bad}");
        }
    }
}
