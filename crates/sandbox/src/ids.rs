//! Which ids of the machine stand behind the ids in a sandbox.
//!
//! In: who starts us, the maps of the namespace we are in, `/etc/subuid` and its siblings. Out: an [`Ids`], or why there
//! is none and what mends it. The machine's id 0 is never among them: whoever breaks out of a RUN is nobody outside.
//! Nothing is changed here; `worker` writes the maps.

use std::collections::BTreeSet;
use std::io::Read;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

/// Where root's range starts: above what system users, logins, subordinate ranges and other container tools take.
pub const FIRST: u32 = 0x7000_0000;
/// How many ids root's range has.
pub const COUNT: u32 = 1 << 28;
/// Fewer ids than this cannot hold `nobody` (65534), which most images own something as.
const FULL: u32 = 65_535;
/// `/etc/subuid`, `/etc/passwd` and the like.
const FILE_BYTES: u64 = 8 << 20;

/// The ids that a sandbox uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ids {
    /// Started as root: a range of ids that nobody else has, never 0.
    Range {
        /// The id (user and group) that root in the sandbox is.
        first: u32,
        /// How many follow each other.
        count: u32,
    },
    /// An ordinary user with subordinate ids: root in the sandbox is the user, 1 and up are subordinate.
    Subordinate {
        /// The user.
        uid: u32,
        /// Their group.
        gid: u32,
        /// First and count, from `/etc/subuid`.
        sub_uid: (u32, u32),
        /// First and count, from `/etc/subgid`.
        sub_gid: (u32, u32),
    },
    /// An ordinary user without: only root exists in the sandbox, and it is the user.
    Single {
        /// The user.
        uid: u32,
        /// Their group.
        gid: u32,
    },
}

/// One line of an id map: inside, outside, count.
pub(crate) type Extent = (u32, u32, u32);

impl Ids {
    /// Is there only one id in the sandbox?
    pub fn is_single(&self) -> bool {
        matches!(self, Self::Single { .. } | Self::Range { count: 1, .. })
    }

    /// How many ids there are in the sandbox, from 0 up.
    pub fn count(&self) -> u32 {
        match self {
            Self::Range { count, .. } => *count,
            Self::Subordinate { sub_uid, sub_gid, .. } => sub_uid.1.min(sub_gid.1).saturating_add(1),
            Self::Single { .. } => 1,
        }
    }

    /// The machine's user and group that root in the sandbox is: the owner of the trees.
    pub fn root(&self) -> (u32, u32) {
        match self {
            Self::Range { first, .. } => (*first, *first),
            Self::Subordinate { uid, gid, .. } | Self::Single { uid, gid } => (*uid, *gid),
        }
    }

    /// What to record in a store, so that trees keep their owners: only root's range is a choice.
    pub fn record(&self) -> Option<(u32, u32)> {
        match self {
            Self::Range { first, count } => Some((*first, *count)),
            Self::Subordinate { .. } | Self::Single { .. } => None,
        }
    }

    pub(crate) fn uid_map(&self) -> Vec<Extent> {
        match *self {
            Self::Range { first, count } => vec![(0, first, count)],
            Self::Subordinate { uid, sub_uid: (first, count), .. } => vec![(0, uid, 1), (1, first, count)],
            Self::Single { uid, .. } => vec![(0, uid, 1)],
        }
    }

    pub(crate) fn gid_map(&self) -> Vec<Extent> {
        match *self {
            Self::Range { first, count } => vec![(0, first, count)],
            Self::Subordinate { gid, sub_gid: (first, count), .. } => vec![(0, gid, 1), (1, first, count)],
            Self::Single { gid, .. } => vec![(0, gid, 1)],
        }
    }
}

impl std::fmt::Display for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Range { first, count } => write!(f, "ids {first} to {} of this machine", first + (count - 1)),
            Self::Subordinate { uid, sub_uid: (first, count), .. } => {
                write!(f, "user {uid} and the subordinate ids {first} to {}", first.saturating_add(count - 1))
            }
            Self::Single { uid, .. } => write!(f, "user {uid} alone: every file in an image belongs to root"),
        }
    }
}

/// Why there are no ids for a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdsError {
    /// Root in a container that has no other id.
    #[error("root has no id but 0 in this container, and 0 is never used for RUN")]
    NoSpareId,
    /// The store's trees belong to ids that cannot be used here.
    #[error("the store's files belong to the ids from {first} ({count} of them), which cannot be used here")]
    RecordedUnusable {
        /// As recorded.
        first: u32,
        /// As recorded.
        count: u32,
    },
    /// Root's range would reach into somebody's ids.
    #[error("no {COUNT} unused ids were found from {FIRST} up")]
    NoFreeRange,
}

impl IdsError {
    /// What mends it.
    pub fn mend(&self) -> String {
        match self {
            Self::NoSpareId => {
                "give the container more ids, for example `podman run --userns=auto:size=65536 …`, or run kuz as an \
                 ordinary user"
                    .to_owned()
            }
            Self::RecordedUnusable { .. } => {
                "use another store (`KUZ_STORE=…`), or remove this one with `kuz store prune --all`".to_owned()
            }
            Self::NoFreeRange => {
                "free a range in /etc/subuid and /etc/subgid, or run kuz as an ordinary user".to_owned()
            }
        }
    }
}

/// Why an ordinary user has only a single id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SingleBecause {
    /// `newuidmap` and `newgidmap` are not installed.
    NoHelpers,
    /// They are there but neither setuid nor given the capability.
    HelpersPowerless,
    /// No usable line in `/etc/subuid` or `/etc/subgid`.
    NoRange,
}

/// What [`detect`] looks at, as values.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// `/proc/self/uid_map`
    pub uid_map: String,
    /// `/proc/self/gid_map`
    pub gid_map: String,
    /// `/etc/subuid`
    pub subuid: String,
    /// `/etc/subgid`
    pub subgid: String,
    /// `/etc/passwd`
    pub passwd: String,
    /// `/etc/group`
    pub group: String,
    /// What is wrong with `newuidmap` and `newgidmap`, if anything.
    pub helpers: Option<HelpersMissing>,
}

/// What is wrong with `newuidmap` and `newgidmap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelpersMissing {
    /// Not found.
    Absent,
    /// Found, without the right to do their work.
    Powerless,
}

impl Machine {
    /// Reads this machine's files; one that is missing counts as empty.
    pub fn read() -> Self {
        Self {
            uid_map: read_small("/proc/self/uid_map"),
            gid_map: read_small("/proc/self/gid_map"),
            subuid: read_small("/etc/subuid"),
            subgid: read_small("/etc/subgid"),
            passwd: read_small("/etc/passwd"),
            group: read_small("/etc/group"),
            helpers: helpers(),
        }
    }
}

/// A small text file of this machine; one that is missing or cannot be read counts as empty.
pub(crate) fn read_small(path: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut text = Vec::new();
    if let Ok(fd) = rustix::fs::open(path, flags, Mode::empty()) {
        // A file that cannot be read says nothing, as a missing one.
        let _ = std::fs::File::from(fd).take(FILE_BYTES).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Where distributions put `newuidmap` and `newgidmap`. A fixed list: `PATH` is the caller's to play with.
const HELPER_DIRS: [&str; 5] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin", "/usr/sbin"];

/// The full path of one of the two programs.
pub(crate) fn helper(name: &str) -> Option<String> {
    HELPER_DIRS.iter().map(|dir| format!("{dir}/{name}")).find(|path| rustix::fs::stat(path.as_str()).is_ok())
}

fn helpers() -> Option<HelpersMissing> {
    for name in ["newuidmap", "newgidmap"] {
        let Some(path) = helper(name) else { return Some(HelpersMissing::Absent) };
        let setuid = rustix::fs::stat(path.as_str())
            .is_ok_and(|stat| stat.st_uid == 0 && Mode::from_raw_mode(stat.st_mode).contains(Mode::SUID));
        let capable = rustix::fs::getxattr(path.as_str(), "security.capability", &mut [0_u8; 64][..]).is_ok();
        if !setuid && !capable {
            return Some(HelpersMissing::Powerless);
        }
    }
    None
}

/// The ids for a sandbox started by this user; `recorded` is what the store's trees belong to, if it has any.
pub fn detect(uid: u32, gid: u32, user: &str, recorded: Option<(u32, u32)>) -> Result<Ids, IdsError> {
    choose(uid, gid, user, recorded, &Machine::read()).map(|(ids, _)| ids)
}

/// As [`detect`], from values, with the reason for a single id.
pub fn choose(
    uid: u32,
    gid: u32,
    user: &str,
    recorded: Option<(u32, u32)>,
    machine: &Machine,
) -> Result<(Ids, Option<SingleBecause>), IdsError> {
    if uid == 0 {
        return range(recorded, machine).map(|ids| (ids, None));
    }
    let single = |reason| Ok((Ids::Single { uid, gid }, Some(reason)));
    match machine.helpers {
        Some(HelpersMissing::Absent) => return single(SingleBecause::NoHelpers),
        Some(HelpersMissing::Powerless) => return single(SingleBecause::HelpersPowerless),
        None => {}
    }
    let users = subordinate(&machine.subuid, uid, user);
    // The line of /etc/subgid is the user's, not the group's.
    let groups = subordinate(&machine.subgid, uid, user);
    match users.zip(groups) {
        Some(both) => Ok((Ids::Subordinate { uid, gid, sub_uid: both.0, sub_gid: both.1 }, None)),
        None => single(SingleBecause::NoRange),
    }
}

/// The largest usable range of a user: lines are `name-or-uid:first:count`.
fn subordinate(text: &str, uid: u32, user: &str) -> Option<(u32, u32)> {
    let own = uid.to_string();
    sub_lines(text)
        .filter(|(name, _, _)| *name == own || (!user.is_empty() && *name == user))
        .map(|(_, first, count)| (first, count))
        // Host 0 is never mapped, and an id cannot be mapped twice.
        .filter(|&(first, count)| first > 0 && !(first..=first.saturating_add(count - 1)).contains(&uid))
        .max_by_key(|range| range.1)
}

fn sub_lines(text: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let first: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        (count > 0 && first.checked_add(count).is_some() && !name.is_empty()).then_some((name, first, count))
    })
}

/// Root's range.
fn range(recorded: Option<(u32, u32)>, machine: &Machine) -> Result<Ids, IdsError> {
    let mapped = intersect(&inside(&machine.uid_map), &inside(&machine.gid_map));
    let within = |first: u32, count: u32| {
        let last = u64::from(first) + u64::from(count) - 1;
        first > 0 && count > 0 && mapped.iter().any(|&(a, b)| a <= u64::from(first) && last <= b)
    };
    if let Some((first, count)) = recorded {
        let usable = count > 0 && within(first, count);
        return if usable { Ok(Ids::Range { first, count }) } else { Err(IdsError::RecordedUnusable { first, count }) };
    }
    let taken = taken(machine);
    let free = |first: u32, count: u32| {
        taken.iter().all(|&(a, b)| b < u64::from(first) || a > u64::from(first) + u64::from(count) - 1)
    };
    if within(FIRST, COUNT) {
        // Seven places of the same size, then smaller ones of the smallest useful size.
        let places = (0..7_u32).filter_map(|n| Some((FIRST.checked_add(n.checked_mul(COUNT)?)?, COUNT)));
        let smaller = (0..4096_u32).filter_map(|n| Some((FIRST.checked_add(n.checked_mul(1 << 19)?)?, 1 << 19)));
        return places
            .chain(smaller)
            .find(|&(first, count)| within(first, count) && free(first, count))
            .map(|(first, count)| Ids::Range { first, count })
            .ok_or(IdsError::NoFreeRange);
    }
    // Inside another user namespace with few ids. Best is a gap between the container's own users that is large enough
    // for any image; without one, everything but 0, which is still better than 0.
    let gaps = mapped.iter().flat_map(|&(a, b)| gaps(a.max(1), b, &taken));
    let gap = gaps.filter(|&(a, b)| b - a + 1 >= u64::from(FULL)).max_by_key(|&(a, b)| b - a);
    let all = mapped.iter().map(|&(a, b)| (a.max(1), b)).filter(|&(a, b)| a <= b).max_by_key(|&(a, b)| b - a);
    let (a, b) = gap.or(all).ok_or(IdsError::NoSpareId)?;
    let first = u32::try_from(a).map_err(|_| IdsError::NoSpareId)?;
    let count = u32::try_from(b - a + 1).unwrap_or(COUNT).min(COUNT);
    Ok(Ids::Range { first, count })
}

/// The inside ranges (first, last) of a map file.
fn inside(map: &str) -> Vec<(u64, u64)> {
    map.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::parse::<u64>);
            let (first, _, count) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
            (count > 0).then(|| (first, first + count - 1))
        })
        // The last number is "nobody" to the kernel.
        .map(|(first, last)| (first, last.min(u64::from(u32::MAX) - 1)))
        .collect()
}

fn intersect(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    a.iter()
        .flat_map(|&(a1, a2)| b.iter().map(move |&(b1, b2)| (a1.max(b1), a2.min(b2))))
        .filter(|&(first, last)| first <= last)
        .collect()
}

/// What belongs to somebody: subordinate ranges, users and groups, in order.
fn taken(machine: &Machine) -> BTreeSet<(u64, u64)> {
    let ranges = sub_lines(&machine.subuid)
        .chain(sub_lines(&machine.subgid))
        .map(|(_, first, count)| (u64::from(first), u64::from(first) + u64::from(count) - 1));
    let ids = machine.passwd.lines().chain(machine.group.lines()).filter_map(|line| {
        let id: u64 = line.split(':').nth(2)?.parse().ok()?;
        Some((id, id))
    });
    ranges.chain(ids).collect()
}

/// What `taken` leaves of `first..=last`.
fn gaps(first: u64, last: u64, taken: &BTreeSet<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut free = Vec::new();
    let mut at = first;
    for &(a, b) in taken {
        if a > at && at <= last {
            free.push((at, (a - 1).min(last)));
        }
        at = at.max(b + 1);
    }
    if at <= last {
        free.push((at, last));
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let all = "         0          0 4294967295\n".to_owned();
        Machine { uid_map: all.clone(), gid_map: all, helpers: None, ..Machine::default() }
    }

    #[test]
    fn root_gets_a_range_without_0_that_nobody_has() {
        let plain = Ids::Range { first: FIRST, count: COUNT };
        let next = Ids::Range { first: FIRST + COUNT, count: COUNT };
        let map = |text: &str| Machine { uid_map: text.into(), gid_map: text.into(), ..machine() };
        let users = "root:x:0:0::/:\nuser:x:1000:1000::/:\nnobody:x:65534:65534::/:\n".to_owned();
        let table = [
            ("plain", machine(), None, Ok(plain)),
            ("recorded", machine(), Some((500_000, 65_536)), Ok(Ids::Range { first: 500_000, count: 65_536 })),
            ("recorded 0", machine(), Some((0, 10)), Err(IdsError::RecordedUnusable { first: 0, count: 10 })),
            ("taken", Machine { subuid: format!("a:{}:65536\n", FIRST + 9), ..machine() }, None, Ok(next)),
            ("a user there", Machine { passwd: format!("x:x:{FIRST}:1::/:\n"), ..machine() }, None, Ok(next)),
            ("elsewhere", Machine { subuid: "a:100000:65536\n".into(), ..machine() }, None, Ok(plain)),
            ("container", map("0 100000 65536\n"), None, Ok(Ids::Range { first: 1, count: 65_535 })),
            (
                "container with users",
                Machine { passwd: users.clone(), ..map("0 100000 65536\n") },
                None,
                Ok(Ids::Range { first: 1, count: 65_535 }),
            ),
            (
                "container with room",
                Machine { passwd: users, ..map("0 1000 1\n1 100000 200000\n") },
                None,
                Ok(Ids::Range { first: 65_535, count: 134_466 }),
            ),
            ("two ids", map("0 1000 2\n"), None, Ok(Ids::Range { first: 1, count: 1 })),
            ("only 0", map("0 1000 1\n"), None, Err(IdsError::NoSpareId)),
            ("no map", map(""), None, Err(IdsError::NoSpareId)),
            (
                "recorded outside",
                map("0 100000 65536\n"),
                Some((FIRST, COUNT)),
                Err(IdsError::RecordedUnusable { first: FIRST, count: COUNT }),
            ),
        ];
        for (name, machine, recorded, expected) in table {
            let got = choose(0, 0, "root", recorded, &machine).map(|(ids, _)| ids);
            assert_eq!(got, expected, "{name}");
            if let Ok(ids) = got {
                for (_, host, count) in ids.uid_map().into_iter().chain(ids.gid_map()) {
                    assert!(host > 0 && count > 0, "{name}: host id 0");
                }
            }
        }
    }

    #[test]
    fn users_get_their_subordinate_ids_or_are_alone() {
        let user = |subuid: &str, subgid: &str| Machine { subuid: subuid.into(), subgid: subgid.into(), ..machine() };
        let single = |reason| (Ids::Single { uid: 1000, gid: 100 }, Some(reason));
        let sub = |first, count| {
            (Ids::Subordinate { uid: 1000, gid: 100, sub_uid: (first, count), sub_gid: (first, count) }, None)
        };
        let line = "me:100000:65536\n";
        let table = [
            ("by name", user(line, line), sub(100_000, 65_536)),
            ("by id", user("1000:7000:10\n", "1000:7000:10\n"), sub(7000, 10)),
            ("largest", user("me:7000:10\nme:100000:65536\n", line), sub(100_000, 65_536)),
            ("somebody else's", user("you:1:2\n", "you:1:2\n"), single(SingleBecause::NoRange)),
            ("only one file", user(line, ""), single(SingleBecause::NoRange)),
            ("host 0", user("me:0:65536\n", "me:0:65536\n"), single(SingleBecause::NoRange)),
            ("own id inside", user("me:999:10\n", "me:999:10\n"), single(SingleBecause::NoRange)),
            ("overflow", user("me:4294967295:9\n", line), single(SingleBecause::NoRange)),
            ("junk", user("me:x:y\nme\n:::\nme:5:0\n", line), single(SingleBecause::NoRange)),
            (
                "no helper",
                Machine { helpers: Some(HelpersMissing::Absent), ..user(line, line) },
                single(SingleBecause::NoHelpers),
            ),
            (
                "helper not setuid",
                Machine { helpers: Some(HelpersMissing::Powerless), ..user(line, line) },
                single(SingleBecause::HelpersPowerless),
            ),
        ];
        for (name, machine, expected) in table {
            assert_eq!(choose(1000, 100, "me", None, &machine), Ok(expected), "{name}");
        }
    }
}
