//! What is made of a finished image besides its place in the store: files, a push, a load into Docker.
//!
//! Outputs of one build are written one after the other, in the order asked for.

use std::time::Instant;

use crate::assemble::Image;
use crate::error::BuildError;
use crate::event::Event;
use crate::execute::Execution;
use crate::request::{BuildRequest, Dest, OutputSpec};
use crate::session::Session;
use crate::{remote, save};

/// Writes every output of the request. What comes back is the image, with all layers in the store if one had to be had.
pub(crate) fn write(
    execution: &Execution<'_>,
    request: &BuildRequest,
    mut image: Image,
    names: &[String],
) -> Result<Image, BuildError> {
    let session = execution.session;
    for output in &request.outputs {
        let started = Instant::now();
        let text = describe(output, names);
        (session.events)(Event::OutputStarted { text: text.clone() });
        match output {
            OutputSpec::Push => {
                if !image.absent.is_empty() && !remote::have_all(session, &image.manifest, names)? {
                    image = execution.complete(image)?;
                }
                remote::push_all(session, &image.manifest, names)?;
            }
            OutputSpec::Load => remote::load_into_docker(session, &image.manifest, names)?,
            OutputSpec::Oci { dest, tar } => archive(session, &image, names, save::Format::Oci, dest, *tar)?,
            OutputSpec::Docker { dest, tar } => archive(session, &image, names, save::Format::Docker, dest, *tar)?,
        }
        (session.events)(Event::OutputDone { text, took: started.elapsed() });
    }
    Ok(image)
}

fn archive(
    session: &Session<'_>,
    image: &Image,
    names: &[String],
    format: save::Format,
    dest: &Dest,
    tar: bool,
) -> Result<(), BuildError> {
    let compressed = crate::compressed::manifest(session, &image.manifest)?;
    save::save(session, &compressed, names, format, dest, tar)
}

fn describe(output: &OutputSpec, names: &[String]) -> String {
    let place = |dest: &Dest| match dest {
        Dest::Path(path) => path.display().to_string(),
        Dest::Stdout => "standard output".to_owned(),
    };
    match output {
        OutputSpec::Push => format!("push to {}", names.join(", ")),
        OutputSpec::Load => "load into the Docker daemon".to_owned(),
        OutputSpec::Oci { dest, .. } => format!("OCI layout to {}", place(dest)),
        OutputSpec::Docker { dest, .. } => format!("Docker archive to {}", place(dest)),
    }
}
