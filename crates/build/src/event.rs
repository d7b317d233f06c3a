//! What happens during a build, as a closed enum: the only thing that progress displays see.
//!
//! Emitted by the pipeline in the order in which things happen (transfers may interleave with steps). Holds no
//! formatting and no terminal knowledge.

use std::time::Duration;

/// Which of a step's streams wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl From<kuz_sandbox::Stream> for Stream {
    fn from(stream: kuz_sandbox::Stream) -> Self {
        match stream {
            kuz_sandbox::Stream::Stdout => Self::Out,
            kuz_sandbox::Stream::Stderr => Self::Err,
        }
    }
}

/// Names a step for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepName {
    /// The stage's name or number.
    pub stage: String,
    /// From 1.
    pub step: usize,
    /// Steps in the stage.
    pub steps: usize,
    /// The instruction on one line.
    pub text: String,
    /// Its line in the Dockerfile, from 1.
    pub line: usize,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepEnd {
    /// Its record was there.
    Cached,
    /// It was done.
    Done,
    /// It failed.
    Failed,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// An image's manifest and configuration are being looked up.
    ResolveStarted {
        /// The reference.
        image: String,
    },
    /// They are known.
    Resolved {
        /// The reference.
        image: String,
        /// The manifest's digest.
        digest: String,
        /// No registry was asked.
        local: bool,
    },
    /// A layer's download began.
    FetchStarted {
        /// The blob.
        digest: String,
        /// Its bytes.
        bytes: u64,
    },
    /// More of it is here.
    FetchProgress {
        /// The blob.
        digest: String,
        /// Bytes so far.
        bytes: u64,
    },
    /// It is here and verified.
    FetchDone {
        /// The blob.
        digest: String,
    },
    /// A layer is being unpacked.
    Unpacking {
        /// Its diff id.
        diff_id: String,
    },
    /// How RUN steps are isolated, and what that means.
    Isolation {
        /// One line.
        text: String,
    },
    /// A step began.
    StepStarted(StepName),
    /// A step's command wrote.
    StepOutput {
        /// The step.
        name: StepName,
        /// Which stream.
        stream: Stream,
        /// Raw bytes.
        bytes: Vec<u8>,
    },
    /// A step ended.
    StepEnded {
        /// The step.
        name: StepName,
        /// How.
        end: StepEnd,
        /// How long it took.
        took: Duration,
    },
    /// An output is being written.
    OutputStarted {
        /// What and where.
        text: String,
    },
    /// It is written.
    OutputDone {
        /// What and where.
        text: String,
        /// How long it took.
        took: Duration,
    },
    /// Something worth knowing.
    Note {
        /// One line.
        text: String,
    },
    /// Findings in the Dockerfile that do not stop the build.
    Warnings(Box<crate::error::Findings>),
    /// The finished image's command is started, to see whether it comes up.
    SmokeStarted {
        /// The command.
        command: String,
        /// What is awaited.
        text: String,
    },
    /// It wrote.
    SmokeOutput {
        /// Which stream.
        stream: Stream,
        /// Raw bytes.
        bytes: Vec<u8>,
    },
    /// It has ended; what was seen, if all went well.
    SmokeEnded(Option<Box<crate::smoke::Report>>),
    /// What was found about the finished image.
    Verdict(Box<crate::verdict::Verdict>),
    /// Why steps were hits or misses, where the request asks for it.
    Explained(Box<crate::explain::Explanation>),
}
