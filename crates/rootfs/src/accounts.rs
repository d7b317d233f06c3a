//! Users and groups of an image: `USER`, `--chown`, owners of what WORKDIR makes.
//!
//! In: what the Dockerfile says (`app`, `app:www`, `1000:1000`) and the contents of the image's `/etc/passwd` and
//! `/etc/group`. Out: numbers. No file is read here and no name service is asked. Numbers are plain decimal digits up
//! to 2³¹-1 as everywhere in container tools; nothing wraps around to 0 (CVE-2024-40635).

use kuz_image::limits;

use crate::root::show;

/// The largest id that users may name.
const ID_MAX: u32 = i32::MAX as u32;
/// Supplementary groups: the kernel's `NGROUPS_MAX`.
const GROUPS_MAX: usize = 65_536;

/// The two files, where the image has them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accounts<'a> {
    /// `/etc/passwd`
    pub passwd: Option<&'a [u8]>,
    /// `/etc/group`
    pub group: Option<&'a [u8]>,
}

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups, in order, without `gid` twice.
    pub supplementary: Vec<u32>,
    /// Home directory; empty where `/etc/passwd` doesn't say.
    pub home: Vec<u8>,
}

/// Why a user or group has no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what was looked up")]
pub enum AccountError {
    /// The file is larger than the limit.
    #[error("`/{file}` of the image is larger than {} bytes", limits::ACCOUNT_FILE_BYTES)]
    TooLarge { file: &'static str },
    /// Looks like a number, but is none that a user may have.
    #[error("`{text}` is no user or group number (want decimal digits, at most {ID_MAX})")]
    BadNumber { text: String },
    /// Neither user nor number.
    #[error("no user `{name}` in the image's `/etc/passwd`")]
    NoUser { name: String },
    /// Neither group nor number.
    #[error("no group `{name}` in the image's `/etc/group`")]
    NoGroup { name: String },
    /// Nothing before or after the colon.
    #[error("`{text}` names no user or no group")]
    Empty { text: String },
    /// The user is a member of too many groups.
    #[error("user `{name}` is in more than {GROUPS_MAX} groups")]
    TooManyGroups { name: String },
}

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

/// Does this `user[:group]` need the image's files (because it isn't all numbers)?
pub fn is_named(spec: &str) -> bool {
    spec.split(':').any(|part| !part.bytes().all(|b| b.is_ascii_digit()))
}

/// Whom `USER spec` means; empty is root. Without a group: the user's own and those that list the user as a member.
pub fn identity(spec: &str, accounts: Accounts<'_>) -> Result<Identity, AccountError> {
    if spec.is_empty() {
        return identity("0", accounts);
    }
    let (user, group) = parts(spec)?;
    let number = number(user)?;
    let found = match number {
        Some(uid) => find_user(accounts, |entry| entry.uid == uid)?,
        None => find_user(accounts, |entry| entry.name == user.as_bytes())?,
    };
    if found.is_none() && number.is_none() {
        return Err(AccountError::NoUser { name: escape(user) });
    }
    let mut identity = Identity {
        uid: found.as_ref().map_or(number.unwrap_or_default(), |entry| entry.uid),
        gid: found.as_ref().map_or(0, |entry| entry.gid),
        supplementary: Vec::new(),
        home: found.as_ref().map(|entry| entry.home.to_vec()).unwrap_or_default(),
    };
    match (group, &found) {
        (Some(group), _) => identity.gid = group_id(group, accounts)?,
        (None, Some(entry)) => identity.supplementary = member_of(entry, accounts)?,
        (None, None) => {}
    }
    Ok(identity)
}

/// The owner that `--chown spec` means. A user's number alone is also the group's; a user's name alone takes the
/// group from `/etc/passwd`.
pub fn owner(spec: &str, accounts: Accounts<'_>) -> Result<(u32, u32), AccountError> {
    let (user, group) = parts(spec)?;
    let (uid, primary) = match number(user)? {
        Some(uid) => (uid, uid),
        None => find_user(accounts, |entry| entry.name == user.as_bytes())?
            .map(|entry| (entry.uid, entry.gid))
            .ok_or_else(|| AccountError::NoUser { name: escape(user) })?,
    };
    Ok((uid, group.map_or(Ok(primary), |group| group_id(group, accounts))?))
}

/// [`owner`], where a name that the image does not know is no error: as a user it is 0, as a group the user's own. What
/// was not found comes along.
pub fn owner_or_root(spec: &str, accounts: Accounts<'_>) -> Result<((u32, u32), Option<AccountError>), AccountError> {
    let (user, group) = parts(spec)?;
    let (ids, unknown) = match owner(user, accounts) {
        Err(error @ AccountError::NoUser { .. }) => ((0, 0), Some(error)),
        other => (other?, None),
    };
    let Some(group) = group else { return Ok((ids, unknown)) };
    match group_id(group, accounts) {
        Err(error @ AccountError::NoGroup { .. }) => Ok((ids, unknown.or(Some(error)))),
        other => Ok(((ids.0, other?), unknown)),
    }
}

fn parts(spec: &str) -> Result<(&str, Option<&str>), AccountError> {
    let (user, group) = spec.split_once(':').map_or((spec, None), |(user, group)| (user, Some(group)));
    if user.is_empty() || group.is_some_and(str::is_empty) {
        return Err(AccountError::Empty { text: escape(spec) });
    }
    Ok((user, group))
}

/// The number that a text is; `None` for a name.
fn number(text: &str) -> Result<Option<u32>, AccountError> {
    let bad = || AccountError::BadNumber { text: escape(text) };
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|id| *id <= ID_MAX).map(Some).ok_or_else(bad);
    }
    // Other tools read `+1`, `-1`, `0x0` and digits of other scripts as numbers: no name may look like that.
    let sign = text.starts_with(['+', '-']);
    let hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    let foreign = text.chars().all(char::is_numeric);
    if sign || hexadecimal || foreign { Err(bad()) } else { Ok(None) }
}

fn group_id(group: &str, accounts: Accounts<'_>) -> Result<u32, AccountError> {
    if let Some(gid) = number(group)? {
        return Ok(gid);
    }
    let lines = lines(accounts.group, "etc/group")?;
    lines
        .filter_map(group_line)
        .find(|(name, ..)| *name == group.as_bytes())
        .map(|(_, gid, _)| gid)
        .ok_or_else(|| AccountError::NoGroup { name: escape(group) })
}

fn find_user<'a>(accounts: Accounts<'a>, wanted: impl Fn(&User<'a>) -> bool) -> Result<Option<User<'a>>, AccountError> {
    Ok(lines(accounts.passwd, "etc/passwd")?.filter_map(user_line).find(wanted))
}

fn member_of(user: &User<'_>, accounts: Accounts<'_>) -> Result<Vec<u32>, AccountError> {
    let mut groups = Vec::new();
    for (_, gid, members) in lines(accounts.group, "etc/group")?.filter_map(group_line) {
        let member = members.split(|&b| b == b',').any(|name| name == user.name);
        if member && gid != user.gid {
            groups.push(gid);
        }
        if groups.len() > GROUPS_MAX {
            return Err(AccountError::TooManyGroups { name: show(user.name) });
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|gid| seen.insert(*gid));
    Ok(groups)
}

fn lines<'a>(content: Option<&'a [u8]>, file: &'static str) -> Result<impl Iterator<Item = &'a [u8]>, AccountError> {
    let content = content.unwrap_or_default();
    if content.len() > limits::ACCOUNT_FILE_BYTES {
        return Err(AccountError::TooLarge { file });
    }
    Ok(content
        .split(|&b| b == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#")))
}

/// A line that isn't well formed is passed over, as the C library does.
fn user_line(line: &[u8]) -> Option<User<'_>> {
    let mut fields = line.split(|&b| b == b':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let (uid, gid) = (id(fields.nth(1)?)?, id(fields.next()?)?);
    Some(User { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
}

fn group_line(line: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    let mut fields = line.split(|&b| b == b':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = id(fields.nth(1)?)?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

fn id(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    text.parse().ok().filter(|id| *id <= ID_MAX)
}

fn escape(text: &str) -> String {
    text.chars().take(200).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# note\nbroken\nwrap:x:4294967296:0::/:\n\
        app:x:1000:1001:App,,,:/home/app:/bin/sh\n+1:x:0:0::/:\nsame:x:1000:5::/:\n";
    const GROUP: &[u8] =
        b"root:x:0:\nwww:x:33:app,other\napp:x:1001:app\nextra:x:44:app\nextra2:x:44:app\nbad:x:-1:app\n";

    fn accounts() -> Accounts<'static> {
        Accounts { passwd: Some(PASSWD), group: Some(GROUP) }
    }

    #[test]
    fn users_are_looked_up_in_the_image() {
        let cases: [(&str, u32, u32, &[u32], &str); 9] = [
            ("", 0, 0, &[], "/root"),
            ("root", 0, 0, &[], "/root"),
            ("0", 0, 0, &[], "/root"),
            ("app", 1000, 1001, &[33, 44], "/home/app"),
            ("1000", 1000, 1001, &[33, 44], "/home/app"),
            ("app:www", 1000, 33, &[], "/home/app"),
            ("app:7", 1000, 7, &[], "/home/app"),
            ("2000", 2000, 0, &[], ""),
            ("01", 1, 0, &[], ""),
        ];
        for (spec, uid, gid, groups, home) in cases {
            let want = Identity { uid, gid, supplementary: groups.to_vec(), home: home.as_bytes().to_vec() };
            assert_eq!(identity(spec, accounts()), Ok(want), "{spec}");
        }
    }

    #[test]
    fn owners_of_copied_files() {
        for (spec, want) in
            [("5", (5, 5)), ("5:6", (5, 6)), ("app", (1000, 1001)), ("app:www", (1000, 33)), ("9:www", (9, 33))]
        {
            assert_eq!(owner(spec, accounts()), Ok(want), "{spec}");
        }
        assert!(is_named("app") && is_named("1:www") && !is_named("1:2") && !is_named("7"));
    }

    #[test]
    fn owners_that_the_image_does_not_know_are_root() {
        let no_user = || Some(AccountError::NoUser { name: "nobody".into() });
        let no_group = || Some(AccountError::NoGroup { name: "nope".into() });
        for (spec, want, unknown) in [
            ("app:www", (1000, 33), None),
            ("nobody", (0, 0), no_user()),
            ("nobody:www", (0, 33), no_user()),
            ("nobody:nope", (0, 0), no_user()),
            ("app:nope", (1000, 1001), no_group()),
            ("7:nope", (7, 7), no_group()),
        ] {
            assert_eq!(owner_or_root(spec, accounts()), Ok((want, unknown)), "{spec}");
        }
        for bad in ["-1", "app:-1", ":5", "1:+0"] {
            assert!(owner_or_root(bad, accounts()).is_err(), "{bad}");
        }
    }

    #[test]
    fn cve_2024_40635_numbers_never_wrap() {
        let bad =
            ["4294967295", "4294967296", "2147483648", "-1", "+1", "0x0", "18446744073709551616", "١", "1:-1", "1:+0"];
        for spec in bad {
            assert!(matches!(identity(spec, accounts()), Err(AccountError::BadNumber { .. })), "{spec}");
            assert!(matches!(owner(spec, accounts()), Err(AccountError::BadNumber { .. })), "{spec}");
        }
        for (spec, user) in
            [("nobody", true), ("wrap", true), ("broken", true), ("1 ", true), ("app:nope", false), ("1:bad", false)]
        {
            let error = identity(spec, accounts()).unwrap_err();
            assert_eq!(matches!(error, AccountError::NoUser { .. }), user, "{spec}: {error}");
        }
        assert!(matches!(identity(":5", accounts()), Err(AccountError::Empty { .. })));
        assert!(matches!(owner("5:", accounts()), Err(AccountError::Empty { .. })));
        assert_eq!(identity("5", Accounts::default()).map(|found| found.uid), Ok(5));
    }

    proptest::proptest! {
        #[test]
        fn only_zero_is_root(spec in "[0-9+x-]{1,24}(:[0-9+-]{0,24})?") {
            for found in [identity(&spec, Accounts::default()).map(|found| found.uid), owner(&spec, Accounts::default()).map(|o| o.0)] {
                let user = spec.split(':').next().unwrap_or_default();
                if let Ok(uid) = found {
                    let digits = user.trim_start_matches('0');
                    proptest::prop_assert_eq!(uid.to_string(), if digits.is_empty() { "0" } else { digits });
                }
            }
        }
    }

    #[test]
    fn ghsa_72x6_oversized_files_are_refused() {
        let huge = vec![b'x'; limits::ACCOUNT_FILE_BYTES + 1];
        let accounts = Accounts { passwd: Some(&huge), group: None };
        assert_eq!(identity("app", accounts), Err(AccountError::TooLarge { file: "etc/passwd" }));
        let members = [b"g:x:5:".to_vec(), b"app,".repeat(1_000_000)].concat();
        let accounts = Accounts { passwd: Some(PASSWD), group: Some(&members) };
        assert_eq!(identity("app", accounts).map(|found| found.supplementary), Ok(vec![5]));
    }
}
