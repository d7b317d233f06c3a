//! Which requests go wrong, and how.

/// What happens instead of, or to, the right answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// This status with a JSON error body.
    Status(u16),
    /// This status with this `Retry-After`.
    RetryAfter(u16, String),
    /// This status with these headers and this body.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// 401 with the registry's challenge.
    Unauthorized,
    /// 200 with a page for people.
    Html,
    /// A redirect with this status to this address.
    Redirect(u16, String),
    /// The connection is closed without an answer.
    Close,
    /// No answer ever comes.
    Hang,
    /// The right headers and this many bytes, then the connection is closed.
    CutAfter(usize),
    /// The right headers and this many bytes, then nothing.
    StallAfter(usize),
    /// One bit of the body is wrong; its length is right.
    Corrupt,
    /// This many bytes too many, with a fitting length.
    Longer(usize),
    /// This many bytes too few, with a fitting length.
    Shorter(usize),
    /// The body is sent without a length.
    Chunked,
    /// 200 with the whole body where a range was asked for.
    IgnoreRange,
    /// 206 for another range than was asked for.
    WrongRange,
    /// This `Docker-Content-Digest`; empty for none.
    DigestHeader(String),
    /// An upload request: keep this many bytes of its body, then close the connection.
    CutUpload(usize),
    /// An upload request: answer 202 to a mount.
    RefuseMount,
    /// An upload request: this `Location`.
    Location(String),
}

/// An action, and the requests that it happens to.
#[derive(Debug, Clone)]
pub struct Fault {
    method: Option<String>,
    part: String,
    skip: usize,
    turns: usize,
    action: Action,
}

impl Fault {
    /// Happens to every request whose path and query contain `part`.
    pub fn on(part: &str, action: Action) -> Self {
        Self { method: None, part: part.to_owned(), skip: 0, turns: usize::MAX, action }
    }

    /// Only to requests of this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only this often.
    #[must_use]
    pub fn times(mut self, turns: usize) -> Self {
        self.turns = turns;
        self
    }

    /// Not to the first `skip` requests that match.
    #[must_use]
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// The action, if this request is to suffer it.
    pub(super) fn take(&mut self, method: &str, path_and_query: &str) -> Option<Action> {
        let matches = self.method.as_deref().is_none_or(|wanted| wanted == method);
        if !matches || !path_and_query.contains(&self.part) || self.turns == 0 {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.turns -= 1;
        Some(self.action.clone())
    }
}
