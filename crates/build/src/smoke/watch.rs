//! The thread beside a running service: asks until it is ready, stops it, and says what was seen.
//!
//! In: the way into the sandbox, the sign to wait for, the times. Out: a [`Course`]. Does not read the service's output,
//! and learns of its end only that it has come.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use kuz_sandbox::{Cancel, Inside, InsideError};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;

use super::http;
use super::report::{Ready, ended, seconds};
use super::rounds::{Rounds, Timing, Turn};
use super::sign::{Sign, Target};
use super::signal::Signal;

/// How long a service may take to end after its signal: what Docker's engine gives it.
const GRACE: Duration = Duration::from_secs(10);
/// How often a question on its way looks whether the user has cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);
/// An address that is this machine itself, and that a service does not hear which listens on 127.0.0.1.
const OTHER_LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// A question that the end of the window cuts so short says less than the one before it.
const SHORT: Duration = Duration::from_millis(500);
/// How long a connection to an address of the machine itself may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How it went.
#[derive(Debug)]
pub(super) enum Course {
    /// It was ready, and was stopped.
    Ready { how: Ready, after: Duration, inside_only: Option<u16>, stopped: Stopped },
    /// It was given up and killed. It `knows` what it does not want, or may miss something.
    GivenUp { why: String, knows: bool },
    /// It ended before that.
    Ended { after: Duration },
    /// It never ran.
    NotStarted,
    /// The user stopped it.
    Cancelled,
}

/// How a signal was taken.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) took: Duration,
    pub(super) killed: bool,
    /// It has nothing for the signal.
    pub(super) unhandled: bool,
}

/// Somebody who looks after a service.
pub(super) struct Watch<'a> {
    pub(super) inside: Inside,
    pub(super) runtime: &'a Runtime,
    pub(super) cancel: &'a Cancel,
    pub(super) sign: &'a Sign,
    pub(super) timing: Timing,
    pub(super) signal: &'a Signal,
}

/// What came of a question.
enum Asked {
    Yes(Ready),
    No(String),
    /// An answer with this status, and no good one.
    Answered(StatusCode, String),
    /// No answer in time.
    Late(String),
    /// There is nobody to ask any more.
    Over,
}

impl Watch<'_> {
    /// From its start to its end.
    pub(super) fn until_end(self) -> Course {
        if self.inside.started().is_err() {
            return Course::NotStarted;
        }
        let began = Instant::now();
        let mut rounds = Rounds::new(self.timing.clone());
        // What the last question came to, and whether the service itself said that it was a wrong one.
        let (mut last, mut knows) = (String::new(), false);
        loop {
            if self.cancel.is_cancelled() {
                // It has its signal, and its grace.
                self.inside.ended(Duration::MAX);
                return Course::Cancelled;
            }
            let now = began.elapsed();
            let turn = match (rounds.turn(now), self.sign) {
                (Turn::Ask { within }, Sign::Alive) => Turn::Wait(within),
                (turn, _) => turn,
            };
            match turn {
                Turn::Wait(time) => {
                    if self.inside.ended(time) {
                        return self.ended(began.elapsed());
                    }
                }
                Turn::Ask { within } => match self.ask(within) {
                    Asked::Yes(how) => return self.ready(how, began.elapsed()),
                    Asked::Late(_) if within < SHORT && !last.is_empty() => rounds.failed(now, began.elapsed(), false),
                    Asked::No(why) | Asked::Late(why) => {
                        (last, knows) = (why, false);
                        rounds.failed(now, began.elapsed(), false);
                    }
                    Asked::Answered(status, why) => {
                        (last, knows) = (why, status.is_client_error());
                        rounds.failed(now, began.elapsed(), true);
                    }
                    // Told apart by the next look: cancelled, or ended.
                    Asked::Over if self.cancel.is_cancelled() => {}
                    Asked::Over => return self.ended(began.elapsed()),
                },
                Turn::Late if *self.sign == Sign::Alive => return self.ready(Ready::Alive, began.elapsed()),
                Turn::Late => {
                    let window = seconds(self.timing.window);
                    return self.give_up(format!("it was not ready after {window}: {last}"), knows);
                }
                Turn::Unhealthy(times) => {
                    let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
                    let why = format!("it is unhealthy: HEALTHCHECK failed {times} in a row: {last}");
                    return self.give_up(why, false);
                }
            }
        }
    }

    fn ended(&self, after: Duration) -> Course {
        // Asked too late to say more than that it is over; the end itself comes with the command's exit.
        if self.cancel.is_cancelled() { Course::Cancelled } else { Course::Ended { after } }
    }

    fn give_up(&self, why: String, knows: bool) -> Course {
        self.inside.kill();
        Course::GivenUp { why, knows }
    }

    fn ready(&self, how: Ready, after: Duration) -> Course {
        let inside_only = match &how {
            Ready::Answered { .. } | Ready::Accepts { .. } => self.inside_only(&how),
            Ready::Healthy { .. } | Ready::Alive | Ready::Finished => None,
        };
        let began = Instant::now();
        let handled = self.inside.stop(self.signal.number);
        let killed = !self.inside.ended(GRACE);
        let took = began.elapsed();
        if killed {
            self.inside.kill();
        }
        if self.cancel.is_cancelled() {
            return Course::Cancelled;
        }
        let stopped =
            Stopped { took: if killed { GRACE } else { took }, killed, unhandled: handled == Ok(Some(false)) };
        Course::Ready { how, after, inside_only, stopped }
    }

    /// The port, if it is open on 127.0.0.1 and not on all addresses.
    fn inside_only(&self, how: &Ready) -> Option<u16> {
        let port = match (how, self.sign) {
            (Ready::Accepts { port }, _) => *port,
            (_, Sign::Url(target)) => target.port,
            _ => return None,
        };
        let open = |address| self.connects(address, port);
        let first = IpAddr::V4(Ipv4Addr::LOCALHOST);
        (open(OTHER_LOOPBACK) == Some(false) && open(first) == Some(true)).then_some(port)
    }

    /// Whether a connection is taken; `None` where that could not be asked.
    fn connects(&self, address: IpAddr, port: u16) -> Option<bool> {
        match self.connect(address, port, CONNECT) {
            Ok(_) => Some(true),
            Err(Unconnected::Refused(_)) => Some(false),
            Err(Unconnected::Late(_) | Unconnected::Over) => None,
        }
    }

    fn ask(&self, within: Duration) -> Asked {
        match self.sign {
            Sign::Url(target) => self.ask_url(target, within),
            Sign::Check(argv) => self.check(argv, within),
            Sign::Ports(ports) => self.try_ports(ports, within),
            Sign::Alive => Asked::No(String::new()),
        }
    }

    fn check(&self, argv: &[String], within: Duration) -> Asked {
        match self.inside.execute(argv, within) {
            Ok(executed) if executed.exit.is_some_and(kuz_sandbox::Exit::success) => {
                Asked::Yes(Ready::Healthy { command: super::line(argv) })
            }
            Ok(executed) => {
                let how = executed.exit.map_or_else(|| format!("took longer than {}", seconds(within)), ended);
                let say = if executed.exit.is_some() { Asked::No } else { Asked::Late };
                let output = String::from_utf8_lossy(&executed.output);
                let line = output.lines().rev().map(str::trim).find(|line| !line.is_empty());
                let line = line.map(|line| format!(", {}", super::clean(line))).unwrap_or_default();
                say(format!("HEALTHCHECK `{}`: {how}{line}", super::line(argv)))
            }
            Err(InsideError::Ended) => Asked::Over,
            Err(error) => {
                let why = crate::run_step::cause_chain(&error);
                Asked::No(format!("HEALTHCHECK `{}`: {}", super::line(argv), super::clean(&why)))
            }
        }
    }

    fn try_ports(&self, ports: &[u16], within: Duration) -> Asked {
        for port in ports {
            match self.connect_any(&both(), *port, within) {
                Ok(_) => return Asked::Yes(Ready::Accepts { port: *port }),
                Err(Unconnected::Over) => return Asked::Over,
                Err(other) if ports.len() == 1 => return other.into(),
                Err(_) => {}
            }
        }
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        Asked::No(format!("none of the ports {} takes a connection", ports.join(", ")))
    }

    fn ask_url(&self, target: &Target, within: Duration) -> Asked {
        let began = Instant::now();
        let stream = match self.connect_any(&target.addresses, target.port, within) {
            Ok(stream) => stream,
            Err(other) => return other.into(),
        };
        let left = within.saturating_sub(began.elapsed());
        match self.wait(left, http::get(stream, target)) {
            None if self.cancel.is_cancelled() => Asked::Over,
            None => Asked::Late(format!("{target} took a connection and did not answer")),
            Some(Ok(answer)) if answer.is_good() => {
                Asked::Yes(Ready::Answered { url: target.to_string(), status: answer.status.to_string() })
            }
            Some(Ok(answer)) => {
                let line =
                    if answer.line.is_empty() { String::new() } else { format!(": {}", super::clean(&answer.line)) };
                Asked::Answered(answer.status, format!("{target} answered {}{line}", answer.status))
            }
            Some(Err(error)) => {
                Asked::No(format!("{target} did not answer in HTTP: {}", crate::run_step::cause_chain(&error)))
            }
        }
    }

    fn connect_any(
        &self,
        addresses: &[IpAddr],
        port: u16,
        within: Duration,
    ) -> Result<tokio::net::TcpStream, Unconnected> {
        let mut first = None;
        for address in addresses {
            match self.connect(*address, port, within) {
                // What the likelier address said is what is told.
                Err(Unconnected::Refused(why)) => drop(first.get_or_insert(why)),
                other => return other,
            }
        }
        Err(Unconnected::Refused(first.unwrap_or_default()))
    }

    fn connect(&self, address: IpAddr, port: u16, within: Duration) -> Result<tokio::net::TcpStream, Unconnected> {
        let socket = match self.inside.socket(address.is_ipv6()) {
            Ok(socket) => socket,
            Err(InsideError::Ended) => return Err(Unconnected::Over),
            Err(error) => return Err(Unconnected::Refused(crate::run_step::cause_chain(&error))),
        };
        let place = SocketAddr::new(address, port);
        let connected = self.wait(within, async { TcpSocket::from_std_stream(socket).connect(place).await });
        match connected {
            Some(Ok(stream)) => Ok(stream),
            Some(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Err(Unconnected::Refused(format!("nothing listens on port {port}")))
            }
            Some(Err(error)) => Err(Unconnected::Refused(format!("port {port}: {error}"))),
            None if self.cancel.is_cancelled() => Err(Unconnected::Over),
            None => Err(Unconnected::Late(format!("port {port} takes no connection"))),
        }
    }

    /// Waits for something, but no longer than so, nor longer than the user.
    fn wait<T>(&self, within: Duration, work: impl Future<Output = T>) -> Option<T> {
        let cancelled = async {
            let mut poll = tokio::time::interval(CANCEL_POLL);
            while !self.cancel.is_cancelled() {
                poll.tick().await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                done = work => Some(done),
                () = tokio::time::sleep(within) => None,
                () = cancelled => None,
            }
        })
    }
}

/// Why there is no connection.
enum Unconnected {
    Refused(String),
    Late(String),
    Over,
}

impl From<Unconnected> for Asked {
    fn from(unconnected: Unconnected) -> Self {
        match unconnected {
            Unconnected::Refused(why) => Self::No(why),
            Unconnected::Late(why) => Self::Late(why),
            Unconnected::Over => Self::Over,
        }
    }
}

fn both() -> [IpAddr; 2] {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)]
}
