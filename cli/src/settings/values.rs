//! Values of flags: sizes, numbers of CPUs, environment and label files, ages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cooper_daemon::api::Ulimit;

/// Longest environment or label file read.
const MAX_FILE: u64 = 16 << 20;

/// Bytes with an optional binary suffix b, k, m, g, t (`512m`, `1.5g`, `64kb`, `1GiB`).
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let wrong =
        || format!("invalid size `{text}`: expected a number with an optional suffix b, k, m, g or t");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, suffix) = lower.split_at(digits);
    let shift = match suffix.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(1 << shift).ok_or_else(wrong);
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let value = number * f64::from(1u32 << 10).powi(shift / 10);
    if !(0.0..=9e18).contains(&value) {
        return Err(wrong());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range was checked, fractions of bytes are meaningless"
    )]
    Ok(value as i64)
}

/// A number of CPUs (`1.5`) as billionths.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, String> {
    let wrong = || format!("invalid number of cpus `{text}`");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9
        || !fraction.bytes().all(|byte| byte.is_ascii_digit())
        || (whole.is_empty() && fraction.is_empty())
    {
        return Err(wrong());
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| wrong())?
    };
    let fraction: i64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    if whole < 0 {
        return Err(wrong());
    }
    whole
        .checked_mul(1_000_000_000)
        .and_then(|nanos| nanos.checked_add(fraction))
        .ok_or_else(wrong)
}

/// `nofile=1024[:2048]`.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, String> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let wrong = |why: &str| format!("invalid ulimit `{text}`: {why}");
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| wrong("expected NAME=SOFT[:HARD]"))?;
    if !NAMES.contains(&name) {
        return Err(wrong("unknown name"));
    }
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong("expected numbers"));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(wrong("the soft limit is above the hard limit"));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

/// The environment: files first, then flags, each later one winning over earlier ones of the same name.
pub(crate) fn environment(
    files: &[PathBuf],
    flags: &[String],
    own: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let mut all: Vec<String> = Vec::new();
    let mut add = |entry: &str| -> Result<(), String> {
        let (name, value) = match entry.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (entry, own(entry)),
        };
        if name.is_empty() {
            return Err(format!("invalid environment variable `{entry}`"));
        }
        if let Some(value) = value {
            let prefix = format!("{name}=");
            all.retain(|known| !known.starts_with(&prefix));
            all.push(format!("{name}={value}"));
        }
        Ok(())
    };
    for file in files {
        for line in lines(file)? {
            let name = line.split('=').next().unwrap_or_default();
            if name.contains(char::is_whitespace) {
                return Err(format!(
                    "{}: variable `{name}` contains white space",
                    file.display()
                ));
            }
            add(&line)?;
        }
    }
    flags.iter().try_for_each(|flag| add(flag))?;
    Ok(all)
}

/// Labels: files first, then flags; a name alone has an empty value.
pub(crate) fn labels(files: &[PathBuf], flags: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::new();
    let mut entries = Vec::new();
    for file in files {
        entries.extend(lines(file)?);
    }
    entries.extend_from_slice(flags);
    for entry in entries {
        let (name, value) = entry.split_once('=').unwrap_or((&entry, ""));
        if name.is_empty() {
            return Err(format!("invalid label `{entry}`"));
        }
        all.insert(name.to_owned(), value.to_owned());
    }
    Ok(all)
}

/// `NAME=VALUE` pairs whose value must be there.
pub(crate) fn pairs(flag: &str, entries: &[String]) -> Result<BTreeMap<String, String>, String> {
    entries
        .iter()
        .map(|entry| match entry.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(format!("invalid --{flag} `{entry}`: expected NAME=VALUE")),
        })
        .collect()
}

/// Lines of a file that are neither empty nor comments.
fn lines(path: &Path) -> Result<Vec<String>, String> {
    let text = read_small(path)?;
    Ok(text
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

/// Reads a text file of bounded size.
pub(crate) fn read_small(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let fail = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(|error| fail(&error))?;
    let mut text = String::new();
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(|error| fail(&error))?;
    if text.len() as u64 > MAX_FILE {
        return Err(fail(&format!("longer than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// A time as the Engine API takes it (unix seconds with fraction): RFC 3339, unix seconds, or an age such as `1h30m`.
pub(crate) fn time(text: &str, now: jiff::Timestamp) -> Result<String, String> {
    if text.parse::<f64>().is_ok_and(f64::is_finite) {
        return Ok(text.to_owned());
    }
    let format = |time: jiff::Timestamp| format!("{}.{:09}", time.as_second(), time.subsec_nanosecond());
    if let Some(age) = age(text) {
        return Ok(format(
            now.checked_sub(age)
                .map_err(|error| format!("invalid time `{text}`: {error}"))?,
        ));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(format(time));
    }
    let civil = text.parse::<jiff::civil::DateTime>();
    match civil.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::system())) {
        Ok(time) => Ok(format(time.timestamp())),
        Err(_) => Err(format!(
            "invalid time `{text}`: expected RFC 3339, unix seconds or an age such as 10m"
        )),
    }
}

/// Go's durations: `1h30m`, `10s`, `250ms`.
pub(crate) fn age(text: &str) -> Option<std::time::Duration> {
    let mut total = std::time::Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total = total.checked_add(std::time::Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("512b", Some(512)),
            ("64k", Some(65536)),
            ("1.5g", Some(1_610_612_736)),
            ("1GiB", Some(1 << 30)),
            ("2MB", Some(2 << 20)),
            ("", None),
            ("x", None),
            ("1x", None),
            ("-1", None),
            ("99999999999g", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn cpus() {
        for (text, expected) in [
            ("1", Some(1_000_000_000)),
            ("1.5", Some(1_500_000_000)),
            (".25", Some(250_000_000)),
            ("0.000000001", Some(1)),
            ("-1", None),
            ("a", None),
            ("1.0000000001", None),
            ("", None),
        ] {
            assert_eq!(nano_cpus(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn ulimits() {
        for (text, expected) in [
            ("nofile=1:2", Some((1, 2))),
            ("nofile=7", Some((7, 7))),
            ("core=-1", Some((-1, -1))),
            ("nofile=2:1", None),
            ("x=1", None),
            ("nofile", None),
            ("nofile=a", None),
        ] {
            assert_eq!(
                ulimit(text).ok().map(|limit| (limit.soft, limit.hard)),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn environments() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("env");
        std::fs::write(&file, "# comment\n\nA=1\n  B=x y \nHOME\nC=from=file\n").unwrap();
        let own = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let flags = ["A=2", "D", "E="].map(str::to_owned);
        assert_eq!(
            environment(std::slice::from_ref(&file), &flags, &own).unwrap(),
            ["B=x y ", "HOME=/root", "C=from=file", "A=2", "E="]
        );
        assert!(environment(&[], &["=x".to_owned()], &own).is_err());
        std::fs::write(&file, "A B=1\n").unwrap();
        assert!(
            environment(std::slice::from_ref(&file), &[], &own)
                .unwrap_err()
                .contains("white space")
        );
    }

    #[test]
    fn times() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("1700000000", Some("1700000000")),
            ("1700000000.5", Some("1700000000.5")),
            ("2025-12-31T23:59:59.25Z", Some("1767225599.250000000")),
            ("1h30m", Some("1767220200.000000000")),
            ("10s", Some("1767225590.000000000")),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(time(text, now).ok().as_deref(), expected, "{text}");
        }
    }
}
