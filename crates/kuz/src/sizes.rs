//! Sizes as people type them: `64m`, `10GB`, `1024` to bytes.
//!
//! Powers of 1024, as Docker reads them. Parsing only.

/// Bytes, or what is wrong with the text.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let bad =
        || format!("`{}` is no size (want a number with b, k, m, g or t behind it, such as 64m)", text.escape_debug());
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match lower.get(digits.len()..).unwrap_or_default() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(1024_u64.pow(power)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, want) in [("1024", 1024), ("64m", 64 << 20), ("1GB", 1 << 30), ("2kib", 2048)] {
            assert_eq!(super::parse(text), Ok(want));
        }
        for bad in ["", "m", "-1", "1x", "99999999999t"] {
            assert!(super::parse(bad).is_err(), "{bad}");
        }
    }
}
