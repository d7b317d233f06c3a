//! PAX extended headers: `LENGTH KEY=VALUE\n` records in and out.
//!
//! Records are cut by their length alone, never at a newline: an extended attribute's value may hold any byte. A
//! record that is not exactly as long as it says is an error, not something to skip.

use std::collections::BTreeMap;

/// Records in the order in which they stand (sparse maps need it).
pub(super) type Records<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Cuts an extended header into records.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Records<'_>, &'static str> {
    const BAD: &str = "PAX record does not have the length it says";
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let digits = bytes.iter().take(8).take_while(|byte| byte.is_ascii_digit()).count();
        let (number, _) = bytes.split_at(digits);
        let length = std::str::from_utf8(number).ok().and_then(|text| text.parse::<usize>().ok()).ok_or(BAD)?;
        let (record, rest) = bytes.split_at_checked(length).ok_or(BAD)?;
        let body = record.get(digits..).and_then(|body| body.strip_prefix(b" "));
        let body = body.and_then(|body| body.strip_suffix(b"\n")).ok_or(BAD)?;
        let equals = body.iter().position(|&byte| byte == b'=').ok_or("PAX record has no value")?;
        let (key, value) = (body.get(..equals).unwrap_or_default(), body.get(equals + 1..).unwrap_or_default());
        if key.is_empty() || key.contains(&0) {
            return Err("PAX record has no valid key");
        }
        records.push((key, value));
        bytes = rest;
    }
    Ok(records)
}

/// Writes records in the map's order.
pub(super) fn encode(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        // The length counts its own digits.
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length != body + length.to_string().len() {
            length = body + length.to_string().len();
        }
        out.extend_from_slice(length.to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

/// A decimal number without sign.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// `[-]seconds[.fraction]`, rounded down to whole seconds.
pub(super) fn seconds(value: &[u8]) -> Option<i64> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = digits.splitn(2, |&byte| byte == b'.');
    let whole = i64::try_from(number(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let part = i64::from(fraction.iter().any(|&byte| byte != b'0'));
    if negative { whole.checked_neg()?.checked_sub(part) } else { Some(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_by_length() {
        let value = b"\x01\n12 path=/etc/x\n\0".to_vec();
        for length in [0, 1, 3, 90, 91, 92, 93, 985, 990] {
            let key = vec![b'k'; length + 1];
            let records = BTreeMap::from([(key.clone(), value.clone()), (b"a".to_vec(), vec![])]);
            let bytes = encode(&records);
            let back: BTreeMap<_, _> =
                parse(&bytes).unwrap().into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
            assert_eq!(back, records);
        }
        for bad in [
            &b"5 a=b"[..],
            b"7 a=b\n",
            b"5 a=b\n",
            b"6 a=b\nx",
            b"a=b\n",
            b"6 ab\n\n",
            b"5 =b\n",
            b"99999999999 a=b\n",
            b" 6 a=b\n",
            b"+6 a=b\n",
            b"-1 a=b\n",
            b"0 a=b\n",
            b"\0",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse(b"6 a=b\n").unwrap(), vec![(&b"a"[..], &b"b"[..])]);
    }

    #[test]
    fn times_are_rounded_down() {
        for (text, want) in [
            ("0", Some(0)),
            ("12.9", Some(12)),
            ("-1", Some(-1)),
            ("-1.0", Some(-1)),
            ("-1.5", Some(-2)),
            ("-0.1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            (".5", None),
            ("1.x", None),
            ("1e3", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), want, "{text}");
        }
    }
}
