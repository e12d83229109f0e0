//! Which platforms this host runs: its own, what its CPU runs besides, and what the kernel hands to an emulator.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use cooper_registry::oci::Platform;

/// Where the kernel lists its interpreters.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";
/// Entries are a few lines.
const MAX_ENTRY: u64 = 4096;
const MAX_ENTRIES: usize = 1000;

/// The kernel's table of binary formats, looked at when a foreign process is to be run.
#[derive(Debug)]
pub(crate) struct Emulation {
    dir: PathBuf,
    host: Platform,
}

impl Default for Emulation {
    fn default() -> Self {
        Self {
            dir: PathBuf::from(BINFMT),
            host: Platform::host().normalized(),
        }
    }
}

impl Emulation {
    /// Whether processes for `platform` can be run.
    ///
    /// # Errors
    /// Why not, and what to install.
    pub(super) fn check(&self, platform: &Platform) -> Result<(), String> {
        let platform = platform.normalized();
        if platform.os != self.host.os {
            return Err(format!(
                "RUN for {platform} is not possible on {}: only the system itself runs its programs",
                self.host
            ));
        }
        let host = self.host.architecture.as_str();
        let wanted = platform.architecture.as_str();
        if wanted == host || matches!((host, wanted), ("amd64", "386") | ("arm64", "arm")) {
            return Ok(());
        }
        let why = match header(wanted) {
            None => "no emulator for this architecture is known".to_owned(),
            Some(header) => match self.find(&header) {
                Found::Yes => return Ok(()),
                Found::Unfixed(interpreter) => format!(
                    "{interpreter} is registered without the flag F, so that it would have to be in the image; register it again with it"
                ),
                Found::No => format!("no emulator for it is registered in {}", self.dir.display()),
            },
        };
        Err(format!(
            "RUN for {platform} needs an emulator on this {} host, but {why}; install qemu-user (Debian and Ubuntu: qemu-user-binfmt or qemu-user-static; or `docker run --privileged --rm tonistiigi/binfmt --install {wanted}`)",
            self.host
        ))
    }

    fn find(&self, header: &[u8]) -> Found {
        let mut best = Found::No;
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return best;
        };
        if read(&self.dir.join("status")).is_some_and(|status| status.trim() == "disabled") {
            return best;
        }
        for entry in entries.flatten().take(MAX_ENTRIES) {
            if matches!(entry.file_name().to_str(), None | Some("register" | "status")) {
                continue;
            }
            match read(&entry.path()).map(|text| matches(&text, header)) {
                Some(Found::Yes) => return Found::Yes,
                Some(found @ Found::Unfixed(_)) => best = found,
                Some(Found::No) | None => {}
            }
        }
        best
    }
}

enum Found {
    Yes,
    /// It would be looked up in the image's root.
    Unfixed(String),
    No,
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(MAX_ENTRY).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Whether the kernel would hand a program with this header to the entry (`Documentation/admin-guide/binfmt-misc.rst`).
fn matches(entry: &str, header: &[u8]) -> Found {
    let mut lines = entry.lines();
    if lines.next() != Some("enabled") {
        return Found::No;
    }
    let (mut interpreter, mut flags, mut offset) = ("", "", 0);
    let (mut magic, mut mask) = (None, None);
    for line in lines {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        match key {
            "interpreter" => interpreter = value,
            "flags:" => flags = value,
            "offset" => offset = value.parse().unwrap_or(usize::MAX),
            "magic" => magic = unhex(value),
            "mask" => mask = unhex(value),
            _ => {}
        }
    }
    let Some(magic) = magic.filter(|magic| !magic.is_empty()) else {
        return Found::No;
    };
    let Some(part) = offset
        .checked_add(magic.len())
        .and_then(|end| header.get(offset..end))
    else {
        return Found::No;
    };
    let mask = mask.unwrap_or_else(|| vec![0xff; magic.len()]);
    let equal = part
        .iter()
        .zip(&magic)
        .enumerate()
        .all(|(i, (byte, magic))| (byte ^ magic) & mask.get(i).copied().unwrap_or(0xff) == 0);
    match (equal, flags.contains('F')) {
        (false, _) => Found::No,
        (true, true) => Found::Yes,
        (true, false) => Found::Unfixed(interpreter.to_owned()),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// The first 20 bytes of a program for an architecture: what interpreters are registered for.
fn header(architecture: &str) -> Option<Vec<u8>> {
    // (64 bit, big endian, e_machine of the ELF specification)
    let (wide, big, machine) = match architecture {
        "386" => (false, false, 3_u16),
        "amd64" => (true, false, 62),
        "arm" => (false, false, 40),
        "arm64" => (true, false, 183),
        "loong64" => (true, false, 258),
        "mips" => (false, true, 8),
        "mipsle" => (false, false, 8),
        "mips64" => (true, true, 8),
        "mips64le" => (true, false, 8),
        "ppc64" => (true, true, 21),
        "ppc64le" => (true, false, 21),
        "riscv64" => (true, false, 243),
        "s390x" => (true, true, 22),
        _ => return None,
    };
    let half = |value: u16| {
        if big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let mut bytes = vec![
        0x7f,
        b'E',
        b'L',
        b'F',
        if wide { 2 } else { 1 },
        if big { 2 } else { 1 },
        1,
    ];
    bytes.resize(16, 0);
    // ET_EXEC
    bytes.extend(half(2));
    bytes.extend(half(machine));
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AARCH64: &str = "offset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    /// What the kernel shows, as qemu-user-static and tonistiigi/binfmt register it.
    #[test]
    fn registered_emulators() {
        for (entry, platform, expected) in [
            (
                Some(format!(
                    "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: OCF\n{AARCH64}"
                )),
                "linux/arm64",
                "",
            ),
            (
                Some(format!(
                    "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: PF\n{AARCH64}"
                )),
                "linux/arm64/v9",
                "",
            ),
            (
                Some(format!(
                    "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: OC\n{AARCH64}"
                )),
                "linux/arm64",
                "/usr/bin/qemu-aarch64 is registered without the flag F",
            ),
            (
                Some(format!("disabled\ninterpreter /q\nflags: F\n{AARCH64}")),
                "linux/arm64",
                "no emulator for it is registered in",
            ),
            (
                Some(format!("enabled\ninterpreter /q\nflags: F\n{AARCH64}")),
                "linux/s390x",
                "no emulator for it is registered in",
            ),
            (
                Some("enabled\ninterpreter /q\nflags: F\nextension .exe\n".to_owned()),
                "linux/arm64",
                "no emulator",
            ),
            (
                Some("enabled\nflags: F\noffset 99999999999999999999\nmagic 7f\n".to_owned()),
                "linux/arm64",
                "no emulator",
            ),
            (
                Some("enabled\nflags: F\noffset 0\nmagic 7\n".to_owned()),
                "linux/arm64",
                "no emulator",
            ),
            (None, "linux/arm64", "qemu-user"),
            (None, "linux/amd64", ""),
            (None, "linux/amd64/v3", ""),
            (None, "linux/386", ""),
            (None, "linux/wasm", "no emulator for this architecture is known"),
            (None, "windows/amd64", "only the system itself"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("status"), "enabled\n").unwrap();
            if let Some(entry) = &entry {
                std::fs::write(dir.path().join("qemu"), entry).unwrap();
            }
            let emulation = Emulation {
                dir: dir.path().to_owned(),
                host: "linux/amd64".parse().unwrap(),
            };
            let found = emulation.check(&platform.parse().unwrap());
            match (found, expected) {
                (Ok(()), "") => {}
                (Err(why), expected) if !expected.is_empty() => {
                    assert!(
                        why.contains(expected) && why.contains(platform),
                        "{platform}: {why}"
                    );
                }
                (found, expected) => panic!("{platform} {entry:?}: {found:?}, expected {expected:?}"),
            }
        }
    }
}
