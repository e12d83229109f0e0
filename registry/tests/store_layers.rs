//! Layers: trees to archives and back.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::io::Read;
use std::path::Path;

use common::{config, e, foreign, listing, pax, root, sh, store, tar};
use cooper_registry::digest::{DiffId, Digest};
use cooper_registry::oci::Descriptor;
use cooper_registry::store::{Backing, Layer, Store};

/// Every kind of thing that a layer can hold.
const SAMPLE: &str = r#"
umask 022
mkdir -p bin etc/empty "d with space" long opq
printf hello > etc/hello; chmod 600 etc/hello; chown 12:34 etc/hello
printf suid > bin/su; chmod 4755 bin/su
printf sgid > bin/sg; chmod 2755 bin/sg; chmod 1777 "d with space"
ln bin/su bin/su-again; ln -s ../bin/su etc/link; ln etc/link etc/link-again
mknod bin/char c 1 3; mknod bin/block b 7 200; mkfifo bin/fifo
python3 - <<'P'
import os,socket
n=b'long/'+b'n'*200
open(n,'w').write('x')
os.symlink(b'm'*150, b'long/sym')
d=b'long/'+b'/'.join([b'd'*90]*3)
os.makedirs(d); open(d+b'/f','w').write('deep')
open(b'etc/\xff\xfe','w').write('raw')
open('etc/ü','w').write('umlaut')
os.chown('etc/ü', 3000000, 4000000)
os.setxattr('etc/hello','user.note',b'a\0b\n')
os.setxattr('bin/sg','security.capability',bytes.fromhex('0100000200040000000000000000000000000000'))
os.setxattr('opq','trusted.overlay.opaque',b'y')
os.setxattr('etc','trusted.overlay.origin',b'junk')
os.setxattr('etc','user.dir',b'on a directory')
s=socket.socket(socket.AF_UNIX); s.bind('etc/socket')
with open('etc/sparse','wb') as f:
    f.seek(3<<20); f.write(b'end'); f.truncate(5<<20)
P
mknod etc/gone c 0 0
find . -depth -print0 | xargs -0 touch -h -d @1700000000
touch -h -d @-5 etc/hello
touch -h -d @1700000000 etc
"#;

fn commit(store: &Store, script: &str) -> Layer {
    let snapshot = store.new_snapshot().unwrap();
    sh(&snapshot.upper(), script);
    store.commit_snapshot(snapshot, None).unwrap()
}

fn blob(store: &Store, digest: &Digest, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    store
        .open_blob(digest, offset)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

fn unpack(
    store: &Store,
    layers: &[(DiffId, Descriptor)],
) -> cooper_registry::store::Result<Vec<std::path::PathBuf>> {
    let diff_ids: Vec<DiffId> = layers.iter().map(|(id, _)| id.clone()).collect();
    let descriptors: Vec<Descriptor> = layers.iter().map(|(_, d)| d.clone()).collect();
    let id = store.put_image(&config(&diff_ids), &descriptors, &[]).unwrap();
    store.unpack_image(&store.image(&id.to_string()).unwrap())
}

#[test]
fn format_is_pinned() {
    if !root() {
        return;
    }
    let (_dir, store) = store();
    let layer = commit(&store, SAMPLE);
    assert_eq!(
        layer.diff_id.to_string(),
        "sha256:cae2a28fe2f413705cd4682d3bd9aa57bdc514997ef9b4f7f7d89e9cd2ce5b38",
        "the archive format changed: every layer would get a new digest"
    );
    let empty = store
        .commit_snapshot(store.new_snapshot().unwrap(), None)
        .unwrap();
    assert_eq!(
        empty.diff_id.to_string(),
        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "the empty layer is 1024 zero bytes"
    );
}

#[test]
fn tree_to_tar_to_tree() {
    if !root() {
        return;
    }
    let (dir, store) = store();
    let layer = commit(&store, SAMPLE);
    let bytes = blob(&store, layer.diff_id.digest(), 0);
    assert_eq!(&Digest::sha256(&bytes), layer.diff_id.digest());
    assert_eq!(bytes.len() as u64, layer.size);
    let info = store.blob_info(layer.diff_id.digest()).unwrap().unwrap();
    assert_eq!(
        (info.size, info.backing),
        (layer.size, Backing::Layer(layer.diff_id.clone()))
    );
    for offset in [
        1,
        511,
        512,
        513,
        100_000,
        layer.size / 2,
        layer.size - 1025,
        layer.size - 1,
        layer.size,
        layer.size + 9,
    ] {
        let at = usize::try_from(offset).unwrap().min(bytes.len());
        assert!(
            blob(&store, layer.diff_id.digest(), offset) == bytes[at..],
            "offset {offset}"
        );
    }
    let pulled = common::store();
    let trees = unpack(&pulled.1, &[foreign(&pulled.1, &bytes)]).unwrap();
    sh(
        &layer.tree,
        "rm etc/socket etc/gone; xa del etc trusted.overlay.origin; touch -d @1700000000 etc",
    );
    // The mark of a deletion has no metadata of its own.
    assert_eq!(
        sh(&trees[0], "stat -c '%F %t:%T' etc/gone"),
        "character special file 0:0\n"
    );
    sh(&trees[0], "rm etc/gone; touch -d @1700000000 etc");
    assert_eq!(listing(&layer.tree), listing(&trees[0]));
    drop(dir);
}

#[test]
fn other_tools_read_our_tar() {
    if !root() {
        return;
    }
    let (dir, store) = store();
    let layer = commit(&store, SAMPLE);
    std::fs::write(dir.path().join("l.tar"), blob(&store, layer.diff_id.digest(), 0)).unwrap();
    sh(
        dir.path(),
        "mkdir gnu; tar -C gnu --xattrs --xattrs-include='*' --numeric-owner -xpf l.tar 2>err; ! grep -v 'implausibly old' err || { cat err >&2; false; }",
    );
    let gnu = sh(
        &dir.path().join("gnu"),
        "rm etc/.wh.gone opq/.wh..wh..opq; touch -d @1700000000 etc opq; find . -name '*' | wc -l; xa list etc/hello bin/sg; stat -c '%a %u %g %Y' etc/hello bin/su etc/ü; stat -c %h bin/su",
    );
    assert!(
        gnu.contains("user.note") && gnu.contains("security.capability"),
        "{gnu}"
    );
    assert!(
        gnu.contains("600 12 34 -5\n4755 0 0 1700000000\n644 3000000 4000000 1700000000\n2\n"),
        "{gnu}"
    );
    let python = sh(
        dir.path(),
        r#"python3 - <<'P'
import tarfile,sys
t=tarfile.open('l.tar',errors='surrogateescape')
m={x.name:x for x in t}
print(len(m), m['etc/hello'].mtime, m['etc/sparse'].size, m['bin/su-again'].linkname, m['bin/block'].devmajor, m['bin/block'].devminor, len(m['long/sym'].linkname))
print(m['etc/\udcff\udcfe'].size)
P"#,
    );
    assert!(python.contains("-5.0 5242880 bin/su 7 200 150\n3\n"), "{python}");
}

#[test]
fn damage_is_noticed_before_the_last_byte() {
    if !root() {
        return;
    }
    let (_dir, store) = store();
    let layer = commit(&store, "printf hello > a; printf world > b");
    sh(&layer.tree, "printf hellO > a");
    let mut reader = store.open_blob(layer.diff_id.digest(), 0).unwrap();
    let mut got = Vec::new();
    let error = reader.read_to_end(&mut got).unwrap_err();
    assert!(error.to_string().contains("digest mismatch"), "{error}");
    assert!((got.len() as u64) < layer.size);
    assert_eq!(store.check(true).unwrap().len(), 1);
    sh(&layer.tree, "rm a");
    let mut reader = store.open_blob(layer.diff_id.digest(), 1).unwrap();
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
}

#[test]
fn clamp_makes_tree_and_archive_agree() {
    if !root() {
        return;
    }
    let (_dir, store) = store();
    let make = |extra: &str| {
        let snapshot = store.new_snapshot().unwrap();
        let old = "mkdir d; touch d/new d/old; ln -s x d/link; touch -d @5 d/old";
        sh(&snapshot.upper(), &format!("{old}; {extra}"));
        store.commit_snapshot(snapshot, Some(1000)).unwrap()
    };
    let (first, second) = (make(""), make("sleep 0.01; touch d/new"));
    assert_eq!(first, second);
    assert_eq!(
        sh(&first.tree, "stat -c %Y d d/new d/old d/link"),
        "1000\n1000\n5\n1000\n"
    );
}

#[test]
fn what_cannot_be_a_layer_is_refused() {
    if !root() {
        return;
    }
    let (_dir, store) = store();
    for (script, reason) in [
        ("touch .wh.x", "reserves names"),
        ("mkdir d; xa set d trusted.overlay.redirect /x", "redirect"),
        ("touch f; xa set f trusted.overlay.metacopy ''", "metacopy"),
    ] {
        let snapshot = store.new_snapshot().unwrap();
        sh(&snapshot.upper(), script);
        let error = store.commit_snapshot(snapshot, None).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(
        sh(store.root(), "ls snapshots layers/sha256"),
        "layers/sha256:\n\nsnapshots:\n"
    );
}

#[test]
fn whiteouts_become_overlay_form() {
    if !root() {
        return;
    }
    let (_dir, store) = store();
    let base = foreign(
        &store,
        &tar(&[
            e(b'5', "d/"),
            e(b'0', "d/a"),
            e(b'0', "d/b"),
            e(b'5', "o/"),
            e(b'0', "o/low"),
        ]),
    );
    let top = foreign(
        &store,
        &tar(&[
            e(b'5', "d/"),
            e(b'0', "d/.wh.a"),
            e(b'5', "o/"),
            e(b'0', "o/high"),
            e(b'0', "o/.wh..wh..opq"),
            e(b'5', "again/"),
            e(b'0', ".wh.again"),
            e(b'0', ".wh.before"),
            e(b'5', "before"),
            e(b'0', ".wh..wh.plnk"),
        ]),
    );
    let trees = unpack(&store, &[base, top]).unwrap();
    let script = "stat -c '%n %F %t:%T' d/a; xa list o again before; ls -A";
    let got = sh(&trees[0], script);
    let marks: String = ["o", "again", "before"]
        .map(|name| format!("b'{name}' trusted.overlay.opaque b'y'\n"))
        .concat();
    assert_eq!(
        got,
        format!("d/a character special file 0:0\n{marks}again\nbefore\nd\no\n")
    );
    // The same, mounted.
    let mount = tempfile::tempdir().unwrap();
    let lower = format!("{}:{}", trees[0].display(), trees[1].display());
    let script = format!(
        "unshare -m sh -ec 'mount -t overlay o -o lowerdir={lower} {0}; ls {0}/d {0}/o'",
        mount.path().display()
    );
    assert_eq!(sh(mount.path(), &script).split_whitespace().last(), Some("high"));
}

#[test]
fn a_layer_that_leans_on_its_parents_is_keyed_by_chain() {
    if !root() {
        return;
    }
    let (_dir, store) = store();
    let base = foreign(
        &store,
        &tar(&[
            e(b'5', "usr/"),
            e(b'5', "usr/lib/").mode(0o711).uid(7),
            e(b'0', "usr/lib/low").data("low").mode(0o4711).uid(9),
            e(b'2', "lib").link("usr/lib"),
        ]),
    );
    let top = foreign(
        &store,
        &tar(&[
            e(b'0', "usr/lib/new").data("new"),
            e(b'0', "lib/through-link").data("x"),
            e(b'0', "made/up/dirs").data("y"),
            e(b'1', "hard").link("usr/lib/low"),
        ]),
    );
    let trees = unpack(&store, &[base.clone(), top.clone()]).unwrap();
    assert!(
        trees[0].to_string_lossy().contains("/layers/chain-sha256/"),
        "{:?}",
        trees[0]
    );
    assert!(
        trees[1].to_string_lossy().contains("/layers/sha256/"),
        "{:?}",
        trees[1]
    );
    let got = sh(
        &trees[0],
        "stat -c '%n %a %u %h' usr/lib usr/lib/low hard made/up; cat usr/lib/through-link; test ! -e lib",
    );
    assert_eq!(
        got,
        "usr/lib 711 7 2\nusr/lib/low 4711 9 2\nhard 4711 9 2\nmade/up 755 0 2\nx"
    );
    // On another base it is another tree.
    let other = foreign(
        &store,
        &tar(&[
            e(b'5', "usr/"),
            e(b'5', "usr/lib/").mode(0o700),
            e(b'0', "usr/lib/low").data("other"),
            e(b'5', "lib/"),
        ]),
    );
    let others = unpack(&store, &[other, top]).unwrap();
    assert_eq!(
        sh(&others[0], "stat -c %a usr/lib; cat hard lib/through-link"),
        "700\notherx"
    );
    assert_eq!(store.check(true).unwrap(), Vec::<String>::new());
}

#[test]
fn a_repeated_layer_is_mounted_once() {
    if !root() {
        return;
    }
    let (_dir, store) = store();
    let layer = foreign(&store, &tar(&[e(b'0', "a")]));
    let middle = foreign(&store, &tar(&[e(b'0', ".wh.a")]));
    let trees = unpack(&store, &[layer.clone(), middle, layer]).unwrap();
    assert_eq!(trees.len(), 2);
    assert!(trees[0].join("a").exists());
}

/// What an archive may not do: (entries, part of the message).
#[test]
fn hostile_archives() {
    if !root() {
        return;
    }
    let file = |name: &str| e(b'0', name).data("x");
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("dotdot", tar(&[file("../x")]), "leads out"),
        ("inner dotdot", tar(&[file("a/../../x")]), "leads out"),
        (
            "symlinked parent",
            tar(&[e(b'2', "l").link("/etc"), file("l/x")]),
            "missing directory",
        ),
        (
            "relative escape",
            tar(&[e(b'2', "l").link("../../../../tmp"), file("l/x")]),
            "missing directory",
        ),
        (
            "symlink loop",
            tar(&[e(b'2', "l").link("l"), file("l/x")]),
            "symbolic links",
        ),
        (
            "hard link outside",
            tar(&[e(b'1', "h").link("../../etc/passwd")]),
            "leads out",
        ),
        (
            "hard link absolute",
            tar(&[e(b'1', "h").link("/etc/passwd")]),
            "no such file",
        ),
        (
            "hard link through symlink",
            tar(&[e(b'2', "l").link("/etc"), e(b'1', "h").link("l/passwd")]),
            "no such file",
        ),
        (
            "hard link to directory",
            tar(&[e(b'5', "d"), e(b'1', "h").link("d")]),
            "is a directory",
        ),
        (
            "directory replaced",
            tar(&[
                e(b'5', "d"),
                file("d/x"),
                e(b'2', "d").link("/etc"),
                file("d/passwd"),
            ]),
            "replace a directory",
        ),
        (
            "parent is a file",
            tar(&[file("f"), file("f/x")]),
            "not a directory",
        ),
        ("root is a file", tar(&[file(".")]), "must be a directory"),
        ("empty name", tar(&[e(b'0', "")]), "empty name"),
        (
            "long component",
            tar(&[pax(&[("path", &[b'n'; 300])]), file("x")]),
            "too long",
        ),
        (
            "long path",
            tar(&[pax(&[("path", &b"n/".repeat(3000))]), file("x")]),
            "too long",
        ),
        (
            "NUL in PAX path",
            tar(&[pax(&[("path", b"a\0b")]), file("x")]),
            "NUL",
        ),
        (
            "negative size",
            tar(&[file("x").size(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")]),
            "negative",
        ),
        (
            "huge size",
            tar(&[file("x").size(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff")]),
            "bytes in all",
        ),
        (
            "PAX size desync",
            tar(&[pax(&[("size", b"512")]), file("x")]),
            "contradicts",
        ),
        (
            "PAX size huge",
            tar(&[pax(&[("size", b"9223372036854775807")]), file("x").size("0")]),
            "bytes in all",
        ),
        (
            "PAX negative uid",
            tar(&[pax(&[("uid", b"-1")]), file("x")]),
            "uid out of range",
        ),
        (
            "PAX uid overflow",
            tar(&[pax(&[("uid", b"4294967296")]), file("x")]),
            "uid out of range",
        ),
        (
            "no id",
            tar(&[pax(&[("gid", b"4294967295")]), file("x")]),
            "gid out of range",
        ),
        (
            "PAX bomb",
            tar(&[e(b'x', "p").size("77777777777")]),
            "extended header",
        ),
        (
            "long name bomb",
            tar(&[e(b'L', "p").size("77777777777")]),
            "extended header",
        ),
        (
            "PAX record length",
            tar(&[e(b'x', "p").data("99 path=a\n"), file("x")]),
            "PAX record",
        ),
        (
            "dangling PAX",
            tar(&[pax(&[("path", b"a")])]),
            "without its entry",
        ),
        ("unknown type", tar(&[e(b'M', "x")]), "unsupported entry type"),
        ("symlink to nothing", tar(&[e(b'2', "x")]), "without a target"),
        ("whiteout of nothing", tar(&[e(b'0', ".wh.")]), "deletes nothing"),
        (
            "whiteout of parent",
            tar(&[e(b'0', "d/.wh...")]),
            "deletes nothing",
        ),
        (
            "sparse out of range",
            tar(&[
                pax(&[("GNU.sparse.size", b"1"), ("GNU.sparse.map", b"5,1")]),
                file("x"),
            ]),
            "sparse",
        ),
        (
            "sparse overlap",
            tar(&[
                pax(&[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"2,1,0,0")]),
                file("x"),
            ]),
            "sparse",
        ),
        (
            "sparse bomb",
            tar(&[
                pax(&[
                    ("GNU.sparse.size", b"8000000000000000000"),
                    ("GNU.sparse.map", b"0,1"),
                ]),
                file("x"),
            ]),
            "bytes in all",
        ),
        (
            "checksum",
            {
                let mut t = tar(&[file("x")]);
                t[0] = b'y';
                t
            },
            "not a tar archive",
        ),
        (
            "second checksum",
            {
                let mut t = tar(&[file("x"), file("y")]);
                t[1024] = b'z';
                t
            },
            "after entry",
        ),
        (
            "truncated data",
            tar(&[file("x").size("00000010000")])[..1000].to_vec(),
            "truncated",
        ),
        ("truncated header", tar(&[file("x")])[..300].to_vec(), "truncated"),
        ("text", b"hello world".to_vec(), "truncated"),
        ("empty", Vec::new(), "empty"),
        ("broken xz", b"\xfd7zXZ\0....".to_vec(), "archive"),
        ("broken bzip2", b"BZh91AY&SY".to_vec(), "archive"),
        (
            "broken gzip",
            b"\x1f\x8b\x08\0\0\0\0\0\0\0garbage".to_vec(),
            "archive",
        ),
        ("broken zstd", b"\x28\xb5\x2f\xfdgarbage".to_vec(), "archive"),
    ];
    let (_dir, store) = store();
    let before = sh(
        Path::new("/"),
        "stat -c '%Y %s' /etc/passwd; ls /etc /tmp | wc -l",
    );
    for (name, archive, reason) in table {
        let (diff_id, descriptor) = foreign(&store, &archive);
        let error = unpack(&store, &[(diff_id.clone(), descriptor)])
            .expect_err(name)
            .to_string();
        assert!(error.contains(reason), "{name}: {error}");
        assert!(store.layer(&diff_id).unwrap().is_none(), "{name}");
        if !reason.contains("deletes nothing") {
            let error = store
                .import_layer(&mut archive.as_slice())
                .expect_err(name)
                .to_string();
            assert!(error.contains(reason), "{name}: {error}");
        }
    }
    assert_eq!(
        sh(
            store.root(),
            "ls snapshots layers/sha256 layers/chain-sha256 | grep -c . || true"
        ),
        "3\n",
        "left behind"
    );
    assert_eq!(
        sh(Path::new("/"), "stat -c '%Y %s' /etc/passwd; ls /etc | wc -l")
            .lines()
            .next(),
        before.lines().next()
    );
    assert_eq!(store.check(true).unwrap(), Vec::<String>::new());
}

#[test]
fn archives_that_look_odd_but_are_right() {
    if !root() {
        return;
    }
    let (dir, store) = store();
    let check = |archive: &[u8], script: &str, expected: &str| {
        let layer = store.import_layer(&mut &*archive).unwrap();
        assert_eq!(sh(&layer.tree, script), expected, "{script}");
    };
    let file = |name: &str| e(b'0', name).data("x");
    check(&tar(&[e(b'5', "/"), file("/abs/x")]), "cat abs/x", "x");
    check(&tar(&[e(b'5', "./"), file("./a")]), "cat a", "x");
    check(&tar(&[file("a"), file("a").data("second")]), "cat a", "second");
    check(
        &tar(&[file("a"), e(b'1', "b").link("a"), e(b'1', "b").link("a")]),
        "stat -c %h a",
        "2\n",
    );
    check(
        &tar(&[e(b'5', "real"), e(b'2', "l").link("/real"), file("l/x")]),
        "cat real/x",
        "x",
    );
    check(&tar(&[e(b'0', "dir/"), file("dir/x")]), "cat dir/x", "x");
    check(&tar(&[e(b'g', "g").data("11 comment\n"), file("x")]), "ls", "x\n");
    check(
        &tar(&[
            pax(&[
                ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.user.a", b"b"),
            ]),
            file("x"),
        ]),
        "xa list x",
        "b'x' user.a b'b'\n",
    );
    check(
        &tar(&[e(b'5', "ro").mode(0o555), file("ro/x"), e(b'5', "ro").mode(0o500)]),
        "stat -c '%a %Y' ro",
        "500 10\n",
    );
    for format in ["gnu", "pax", "posix", "ustar", "v7"] {
        let script = format!(
            "rm -rf t; mkdir -p t/d; cd t; printf x > d/f; ln d/f d/h; truncate -s 3M s; printf end >> s; touch $(printf 'n%.0s' $(seq 90)); tar $(case {format} in gnu|pax|posix) echo -S;; esac) --format={format} -cf ../{format}.tar ."
        );
        sh(dir.path(), &script);
        let archive = std::fs::read(dir.path().join(format!("{format}.tar"))).unwrap();
        check(
            &archive,
            "cat d/h; stat -c '%s %h' s d/f; tail -c 3 s; test $(stat -c %b s) -lt 100 -o 1 = 1",
            "x3145731 1\n1 2\nend",
        );
    }
    for sparse in ["0.0", "0.1", "1.0"] {
        let script = format!(
            "cd t; printf start > s; truncate -s 9M s; printf end >> s; tar --format=pax -S --sparse-version={sparse} -cf ../s.tar s; gzip -c ../s.tar > ../s.gz; cat ../s.tar | (head -c 700 | gzip -c; gzip -c) > ../m.gz"
        );
        sh(dir.path(), &script);
        for name in ["s.tar", "s.gz"] {
            let archive = std::fs::read(dir.path().join(name)).unwrap();
            check(
                &archive,
                "head -c 5 s; tail -c 3 s; stat -c %s s; expr $(stat -c %b s) '<' 100",
                "startend9437187\n1\n",
            );
        }
    }
}

#[test]
fn compression_is_recognised() {
    if !root() {
        return;
    }
    let (dir, store) = store();
    let plain = tar(&[e(b'5', "d"), e(b'0', "d/x").data(vec![7; 100_000])]);
    let expected = store.import_layer(&mut plain.as_slice()).unwrap();
    std::fs::write(dir.path().join("l.tar"), &plain).unwrap();
    sh(
        dir.path(),
        "gzip -kc l.tar > a; (head -c 5000 l.tar | gzip -c; tail -c +5001 l.tar | gzip -c) > b",
    );
    for name in ["a", "b"] {
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        assert_eq!(
            store.import_layer(&mut bytes.as_slice()).unwrap(),
            expected,
            "{name}"
        );
        let blob = store.put_blob(&bytes).unwrap();
        let descriptor = Descriptor::new(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            blob,
            bytes.len() as u64,
        );
        let (_pulled_dir, pulled) = common::store();
        pulled.put_blob(&bytes).unwrap();
        let trees = unpack(&pulled, &[(DiffId(Digest::sha256(&plain)), descriptor.clone())]).unwrap();
        assert!(trees[0].join("d/x").exists());
        let wrong = unpack(&pulled, &[(DiffId(Digest::sha256(b"")), descriptor)]).unwrap_err();
        assert!(wrong.to_string().contains("digest mismatch"), "{wrong}");
    }
    let (front, back) = plain.split_at(5000);
    let zstd = [
        zstd::encode_all(front, 3).unwrap(),
        zstd::encode_all(back, 3).unwrap(),
    ]
    .concat();
    assert_eq!(store.import_layer(&mut zstd.as_slice()).unwrap(), expected);
}
