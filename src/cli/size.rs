//! Numbers of bytes as people write them.

/// Reads a number of bytes: `48G` and `48GB` in steps of 1000, as llama.cpp's tools, `48GiB` in steps of 1024, `1500000`.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim().to_ascii_lowercase();
    let letters = text.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let number = text[..text.len() - letters.len()].trim().parse::<f64>();
    let unit = unit(letters);
    match number.ok().zip(unit).map(|(number, unit)| number * unit) {
        Some(bytes) if (1.0..u64::MAX as f64).contains(&bytes) => Ok(bytes as u64),
        _ => Err(
            "a size looks like 500M, 48GB or 12GiB: G and GB are 10^9 bytes, GiB is 2^30".into(),
        ),
    }
}

/// What a unit in lower case stands for.
fn unit(letters: &str) -> Option<f64> {
    let prefix = letters.strip_suffix('b').unwrap_or(letters);
    let (prefix, step) = match prefix.strip_suffix('i') {
        Some(prefix) => (prefix, 1024f64),
        None => (prefix, 1000.0),
    };
    match prefix {
        // Not `i` and `ib`.
        "" if step == 1000.0 => Some(1.0),
        "k" => Some(step),
        "m" => Some(step.powi(2)),
        "g" => Some(step.powi(3)),
        "t" => Some(step.powi(4)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("48G", 48_000_000_000),
            ("48GB", 48_000_000_000),
            ("1.5 kB", 1500),
            ("500m", 500_000_000),
            ("77", 77),
            ("77B", 77),
            ("4GiB", 4 << 30),
            ("4Gi", 4 << 30),
            ("1.5 MiB", 3 << 19),
            ("2tib", 2 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for wrong in [
            "", "G", "GiB", "-1G", "-1GiB", "0", "nan", "inf", "1e400", "1e30", "4 gigs", "12iB",
            "4GG", "4BB",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
