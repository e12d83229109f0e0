use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::*;

type Mount = fn(&Overlay<'_>) -> Result<OwnedFd, OverlayError>;

/// The kernel's way where it has one, and the old way, which every kernel has.
const WAYS: [(&str, Mount); 2] = [
    ("detached", |overlay| overlay.mount_detached()),
    ("aside", |overlay| overlay.mount_aside()),
];

/// `count` layers, the topmost first: each has `own-N`, and its number in `shared`.
struct Fixture {
    dir: tempfile::TempDir,
    lowers: Vec<PathBuf>,
}

impl Fixture {
    fn new(count: usize) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: mounting needs root");
            return None;
        }
        // What overlayfs's option syntax would trip over.
        let dir = tempfile::Builder::new().prefix("a,b:c\\d ").tempdir().unwrap();
        for name in ["empty", "upper", "work"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let lowers: Vec<PathBuf> = (0..count).map(|n| dir.path().join(format!("l{n}"))).collect();
        for (n, lower) in lowers.iter().enumerate() {
            fs::create_dir(lower).unwrap();
            fs::write(lower.join(format!("own-{n}")), "").unwrap();
            fs::write(lower.join("shared"), n.to_string()).unwrap();
        }
        Some(Self { dir, lowers })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn at(mount: &OwnedFd, path: &str) -> PathBuf {
    PathBuf::from(name(mount)).join(path)
}

#[test]
fn layers_stack() {
    for count in [0, 1, 2, 127] {
        let Some(fixture) = Fixture::new(count) else {
            return;
        };
        let (empty, upper, work) = (fixture.path("empty"), fixture.path("upper"), fixture.path("work"));
        let overlay = Overlay {
            lowers: &fixture.lowers,
            upper: None,
            empty: &empty,
            volatile: true,
            inert: true,
        };
        for (way, mount) in WAYS {
            if count > 0 {
                let root = mount(&overlay).unwrap();
                assert_eq!(
                    fs::read_to_string(at(&root, "shared")).unwrap(),
                    "0",
                    "{way} {count}"
                );
                assert_eq!(
                    fs::read_dir(at(&root, ".")).unwrap().count(),
                    count + 1,
                    "{way} {count}"
                );
                fs::write(at(&root, "new"), "").unwrap_err();
            }
            let _ = fs::remove_dir_all(&work);
            let _ = fs::remove_dir_all(&upper);
            fs::create_dir(&work).unwrap();
            fs::create_dir(&upper).unwrap();
            let writable = Overlay {
                upper: Some((&upper, &work)),
                ..overlay
            };
            let root = mount(&writable).unwrap();
            fs::write(at(&root, "new"), way).unwrap();
            drop(root);
            assert_eq!(
                fs::read_to_string(upper.join("new")).unwrap(),
                way,
                "{way} {count}"
            );
            assert_eq!(fs::read_dir(&empty).unwrap().count(), 0, "{way} {count}");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let seen = fixture.dir.path().file_name().unwrap().to_str().unwrap();
        assert!(!mounts.contains(&seen[seen.len() - 6..]), "{mounts}");
    }
}

#[test]
fn limits_are_named() {
    let Some(fixture) = Fixture::new(1) else { return };
    let empty = fixture.path("empty");
    let lowers = |count| vec![fixture.lowers[0].clone(); count];
    let error = |count, mount: Mount| {
        let overlay = Overlay {
            lowers: &lowers(count),
            upper: None,
            empty: &empty,
            volatile: false,
            inert: false,
        };
        mount(&overlay).unwrap_err().to_string()
    };
    let check = |count, mount: Mount, expected: &str| {
        let error = error(count, mount);
        assert!(error.contains(expected), "{error}");
    };
    check(501, WAYS[0].1, "mount 501 layers: the kernel takes at most 500");
    check(400, WAYS[1].1, "of which this kernel takes at most 4095");
}

#[test]
fn missing_layers_are_named() {
    let Some(fixture) = Fixture::new(0) else { return };
    let (empty, missing) = (fixture.path("empty"), fixture.path("missing"));
    let overlay = Overlay {
        lowers: std::slice::from_ref(&missing),
        upper: None,
        empty: &empty,
        volatile: false,
        inert: false,
    };
    for (_, mount) in WAYS {
        let error = mount(&overlay).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("open {}: no such file or directory", missing.display())
        );
    }
}
