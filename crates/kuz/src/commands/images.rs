//! `kuz image …` and `kuz tag`: looking at, naming, removing, saving and loading images.
//!
//! Tables for people, JSON for programs.

use std::fmt::Write as _;

use kuz_build::error::BuildError;
use kuz_build::images::{self, Listed};
use kuz_build::request::Dest;
use kuz_build::{load, save};

use super::{print, print_json, with_session};
use crate::args::{Format, ImageCommand, SaveFormat};
use crate::progress::megabytes;

/// `kuz image …`
pub(crate) fn run(command: &ImageCommand) -> u8 {
    match command {
        ImageCommand::Ls { format } => list(*format),
        ImageCommand::Inspect { image, format } => inspect(image, *format),
        ImageCommand::Rm { images } => remove(images),
        ImageCommand::Save { format, output, image } => write(*format, output, image),
        ImageCommand::Load { input, tag } => read(input, tag.as_deref()),
    }
}

/// `kuz tag`
pub(crate) fn tag(image: &str, name: &str) -> u8 {
    with_session(false, |session, _| images::tag(session, image, name))
}

fn list(format: Format) -> u8 {
    with_session(false, |session, _| {
        let listed = images::list(session)?;
        match format {
            Format::Json => print_json(&listed),
            Format::Text => print(&table(&listed)),
        }
    })
}

fn table(listed: &[Listed]) -> String {
    let name = |image: &Listed| image.name.clone().unwrap_or_else(|| "<none>".to_owned());
    let width = listed.iter().map(|image| name(image).len()).max().unwrap_or_default().max(4);
    let mut text = format!("{:width$}  {:12}  {:>10}  {:20}  PLATFORM\n", "NAME", "ID", "SIZE", "CREATED");
    for image in listed {
        let size = image.size.map_or_else(|| "?".to_owned(), megabytes);
        let created: String = image.created.as_deref().unwrap_or("?").chars().take(20).collect();
        let _ = writeln!(
            text,
            "{:width$}  {:12}  {size:>10}  {created:20}  {}",
            name(image),
            image.id.0.short(),
            image.platform
        );
    }
    text
}

fn inspect(image: &str, format: Format) -> u8 {
    with_session(false, |session, _| {
        let found = images::inspect(session, image)?;
        match format {
            Format::Json => print_json(&found),
            Format::Text => print(&describe(&found)),
        }
    })
}

/// The fields that people look for, a line each.
fn describe(found: &serde_json::Value) -> String {
    let mut text = String::new();
    let plain = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for key in ["id", "names", "manifest", "created", "platform", "size"] {
        let _ = writeln!(text, "{key:9} {}", found.get(key).map(plain).unwrap_or_default());
    }
    let config = found.get("config").and_then(|whole| whole.get("config"));
    for (key, value) in config.and_then(serde_json::Value::as_object).into_iter().flatten() {
        let _ = writeln!(text, "  {key}: {}", plain(value));
    }
    for layer in found.get("layers").and_then(serde_json::Value::as_array).into_iter().flatten() {
        let _ = writeln!(text, "layer {}", layer.get("diffId").map(plain).unwrap_or_default());
    }
    text
}

fn remove(names: &[String]) -> u8 {
    with_session(false, |session, _| {
        let mut text = String::new();
        for name in names {
            let removed = images::remove(session, name)?;
            for name in &removed.untagged {
                let _ = writeln!(text, "untagged {name}");
            }
            if let Some(id) = &removed.deleted {
                let _ = writeln!(text, "deleted {id}");
            }
        }
        print(&text)
    })
}

fn write(format: SaveFormat, output: &str, image: &str) -> u8 {
    let (format, tar) = match format {
        SaveFormat::OciArchive => (save::Format::Oci, true),
        SaveFormat::OciDir => (save::Format::Oci, false),
        SaveFormat::DockerArchive => (save::Format::Docker, true),
    };
    with_session(false, |session, _| {
        let dest = if output == "-" { Dest::Stdout } else { Dest::Path(output.into()) };
        if dest == Dest::Stdout && !tar {
            return Err(BuildError::input("a directory cannot go to standard output: name it with -o DIRECTORY"));
        }
        let found = images::find(session, image)?;
        save::save(session, &found.manifest, &found.names, format, &dest, tar)
    })
}

fn read(input: &str, tag: Option<&str>) -> u8 {
    with_session(false, |session, _| {
        let loaded = load::load(session, input, tag)?;
        let mut text = String::new();
        for image in &loaded {
            let _ = writeln!(text, "loaded {} {}", image.name.as_deref().unwrap_or("<none>"), image.id);
        }
        print(&text)
    })
}
