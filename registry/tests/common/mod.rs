//! Helpers of the store's tests.
#![expect(dead_code, reason = "each test crate uses its own part")]
#![expect(
    unreachable_pub,
    reason = "a module of a test crate has nobody to be reachable for"
)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail and speak as tests do"
)]

use std::path::Path;
use std::process::{Command, Stdio};

use cooper_registry::digest::{DiffId, Digest};
use cooper_registry::oci::{Descriptor, ImageConfig, RootFs, RunConfig, media_type};
use cooper_registry::store::Store;

/// False, after saying so, when the test cannot run as this user.
pub fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root (owners, device nodes, trusted attributes)");
    }
    root
}

/// A store in a new directory.
pub fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

/// Extended attributes without the attr package: `xa set FILE KEY VALUE`, `xa del FILE KEY`, `xa list FILE...`.
const XA: &str = r#"
xa() { python3 - "$@" <<'XA_END'
import os,sys
op,*a=sys.argv[1:]
if op=='set': os.setxattr(a[0],a[1],a[2].encode(),follow_symlinks=False)
if op=='del': os.removexattr(a[0],a[1],follow_symlinks=False)
if op=='list':
    for f in a:
        for k in sorted(os.listxattr(os.fsencode(f),follow_symlinks=False)):
            print(os.fsencode(f),k,os.getxattr(os.fsencode(f),k,follow_symlinks=False))
XA_END
}
"#;

/// Runs a shell script in `dir` and gives what it prints.
pub fn sh(dir: &Path, script: &str) -> String {
    let output = Command::new("bash")
        .args(["-euc", &format!("{XA}{script}")])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A config for layers with these ids.
pub fn config(diff_ids: &[DiffId]) -> ImageConfig {
    ImageConfig {
        architecture: cooper_registry::oci::Platform::host().architecture,
        os: "linux".to_owned(),
        os_version: None,
        variant: None,
        author: None,
        created: Some("2026-01-02T03:04:05Z".to_owned()),
        config: RunConfig::default(),
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: diff_ids.to_vec(),
        },
        history: Vec::new(),
        inline_cache: None,
    }
}

/// Stores `tar` as a plain layer blob.
pub fn foreign(store: &Store, tar: &[u8]) -> (DiffId, Descriptor) {
    let digest = store.put_blob(tar).unwrap();
    let descriptor = Descriptor::new(media_type::OCI_LAYER, digest.clone(), tar.len() as u64);
    (DiffId(digest), descriptor)
}

/// One entry of a hand-made archive; every field can be made wrong.
#[derive(Clone)]
pub struct E {
    pub name: Vec<u8>,
    pub flag: u8,
    pub data: Vec<u8>,
    pub link: Vec<u8>,
    pub size: Option<Vec<u8>>,
    pub mode: u32,
    pub uid: u32,
    pub prefix: Vec<u8>,
}

pub fn e(flag: u8, name: impl AsRef<[u8]>) -> E {
    let name = name.as_ref().to_vec();
    let mode = if flag == b'5' { 0o755 } else { 0o644 };
    E {
        name,
        flag,
        data: Vec::new(),
        link: Vec::new(),
        size: None,
        mode,
        uid: 0,
        prefix: Vec::new(),
    }
}

impl E {
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().to_vec();
        self
    }

    pub fn link(mut self, link: impl AsRef<[u8]>) -> Self {
        self.link = link.as_ref().to_vec();
        self
    }

    pub fn size(mut self, size: impl AsRef<[u8]>) -> Self {
        self.size = Some(size.as_ref().to_vec());
        self
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }

    fn block(&self) -> [u8; 512] {
        let mut block = [0u8; 512];
        block[..self.name.len()].copy_from_slice(&self.name);
        block[100..107].copy_from_slice(format!("{:07o}", self.mode).as_bytes());
        block[108..115].copy_from_slice(format!("{:07o}", self.uid).as_bytes());
        block[116..123].copy_from_slice(b"0000000");
        let size = self
            .size
            .clone()
            .unwrap_or_else(|| format!("{:011o}", self.data.len()).into_bytes());
        block[124..124 + size.len()].copy_from_slice(&size);
        block[136..147].copy_from_slice(b"00000000012");
        block[156] = self.flag;
        block[157..157 + self.link.len()].copy_from_slice(&self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        block[154] = 0;
        block
    }
}

/// The archive of `entries` with its end mark.
pub fn tar(entries: &[E]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend_from_slice(&entry.block());
        out.extend_from_slice(&entry.data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A PAX header with these records.
pub fn pax(records: &[(&str, &[u8])]) -> E {
    let mut data = Vec::new();
    for (key, value) in records {
        let mut length = key.len() + value.len() + 3;
        while length != key.len() + value.len() + 3 + length.to_string().len() {
            length = key.len() + value.len() + 3 + length.to_string().len();
        }
        data.extend_from_slice(format!("{length} {key}=").as_bytes());
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    e(b'x', "pax").data(data)
}

/// Everything about a tree that a layer carries, in one comparable text.
pub fn listing(tree: &Path) -> String {
    sh(
        tree,
        r#"find . -mindepth 1 -printf '%P %y %m %U %G %T@ %l\n' | sed 's/\(\.[0-9]\{9\}\)[0-9]* /\1 /' | LC_ALL=C sort
           find . -type f -not -path '*/big*' -print0 | LC_ALL=C sort -z | xargs -0r sha256sum
           find . \( -type b -o -type c \) -print0 | LC_ALL=C sort -z | xargs -0r stat -c '%n %t:%T'
           mapfile -d '' -t names < <(find . -print0 | LC_ALL=C sort -z); xa list "${names[@]}""#,
    )
}

/// Digest of a text, for messages.
pub fn sha(bytes: &[u8]) -> Digest {
    Digest::sha256(bytes)
}
