//! ADD of URLs and contexts behind URLs.

use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cooper_builder::build::{Context, Error};

use crate::server::{Server, reply};
use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("url_files", url_files),
    ("url_revalidation", url_revalidation),
    ("url_authorization", url_authorization),
    ("url_hostile", url_hostile),
    ("url_cancelled", url_cancelled),
    ("url_contexts", url_contexts),
];

const MODIFIED: &str = "last-modified: Sun, 06 Nov 1994 08:49:37 GMT";
const BODY_SHA256: &str = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";

/// Name, mode, time and owner of what comes from a URL.
fn url_files() {
    let world = World::new();
    Command::new("sh")
        .args([
            "-c",
            "mkdir in && echo A > in/a && tar -czf ../x.tgz --owner=5 --group=6 in",
        ])
        .current_dir(world.context())
        .status()
        .unwrap();
    let tgz = std::fs::read(world.dir.path().join("x.tgz")).unwrap();
    let server = Server::new(move |asked, stream| match asked.path.as_str() {
        "/to" => reply(stream, 302, &["location: /deep/moved"], b"elsewhere"),
        "/x.tgz" => reply(stream, 200, &[], &tgz),
        _ => reply(stream, 200, &[MODIFIED], b"body"),
    });
    for (instruction, expected) in [
        ("ADD URL/dir/name /d/", "d/name 600 0:0 \"body\""),
        ("ADD URL/dir/name /d", "d 600 0:0 \"body\""),
        ("ADD URL/a%20b?q=1 /d/", "d/a b 600 0:0 \"body\""),
        ("ADD URL /d/", "d/__unnamed__ 600 0:0 \"body\""),
        ("ADD URL/to /d/", "d/to 600 0:0 \"body\""),
        ("ENV U=URL\nADD $U/v /d/", "d/v 600 0:0 \"body\""),
        ("ADD --chown=user --chmod=+x URL/n /d", "d 711 1000:1001 \"body\""),
        ("ADD --checksum=sha256:SUM URL/n /d", "d 600 0:0 \"body\""),
        ("ADD --link URL/n /d/", "d/n 600 0:0 \"body\""),
        ("ADD URL/x.tgz /d/", "d/x.tgz 600 0:0"),
        ("ADD --unpack=true URL/x.tgz /d/", "d/in/a 644 5:6 \"A\\n\""),
        ("ADD --unpack URL/n /d/", "d/n 600 0:0 \"body\""),
    ] {
        let instruction = instruction
            .replace("URL", &server.url(""))
            .replace("SUM", BODY_SHA256);
        let (image, _) = world.build(&format!("FROM busybox\n{instruction}\n"));
        let files = world.layer(&image, 0);
        assert!(
            files.iter().any(|entry| entry.starts_with(expected)),
            "{instruction}: {files:?}"
        );
    }
    let (image, outcome) = world.build(&format!("FROM scratch\nADD {} /n\n", server.url("/fresh")));
    let layer = world
        .store
        .layer(&image.config.rootfs.diff_ids[0])
        .unwrap()
        .unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(
        std::fs::metadata(layer.tree.join("n")).unwrap().mtime(),
        784_111_777
    );
    // The source has a step of its own, of the same name.
    let name = format!("ADD {} /n", server.url("/fresh"));
    assert_eq!(outcome.executed(), [name.clone(), name]);
    world.assert_clean();
}

/// A second build asks with the validator and gets no body; a changed body makes another layer; a checksum asks nobody.
fn url_revalidation() {
    let world = World::new();
    let server = Server::new(|asked, stream| {
        if asked.header("if-none-match") == Some("\"1\"") && asked.path != "/changing" {
            return reply(stream, 304, &[], b"");
        }
        let body: &[u8] = if asked.header("if-none-match").is_some() {
            b"new"
        } else {
            b"body"
        };
        reply(stream, 200, &["etag: \"1\"", MODIFIED], body)
    });
    let dockerfile = format!("FROM busybox\nADD {} /d/\n", server.url("/same"));
    let (first, _) = world.build(&dockerfile);
    assert_eq!(server.asked().len(), 1);
    let (second, outcome) = world.build(&dockerfile);
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].header("if-modified-since"),
        MODIFIED.split_once(": ").map(|(_, date)| date)
    );
    assert_eq!(outcome.executed(), Vec::<String>::new());
    assert_eq!(first.id, second.id);
    // Another URL with the same bytes is the same layer.
    let (_, outcome) = world.build(&format!("FROM busybox\nADD {} /d/\n", server.url("/other/same")));
    assert_eq!(
        outcome.executed().len(),
        1,
        "the fetch alone: {:?}",
        outcome.executed()
    );

    let changing = format!("FROM busybox\nADD {} /d/\n", server.url("/changing"));
    world.build(&changing);
    let (image, _) = world.build(&changing);
    assert!(
        world
            .layer(&image, 0)
            .iter()
            .any(|entry| entry.ends_with("\"new\""))
    );

    let sum = format!(
        "FROM busybox\nADD --checksum=sha256:{BODY_SHA256} {} /s/\n",
        server.url("/s")
    );
    world.build(&sum);
    server.asked();
    let (_, outcome) = world.build(&sum);
    assert_eq!((server.asked().len(), outcome.executed()), (0, Vec::new()));
}

/// Secrets reach their host and no other, and no message, layer or history.
fn url_authorization() {
    let mut world = World::new();
    let other = Server::new(|_, stream| reply(stream, 200, &[], b"other"));
    let away = other.url("/away");
    let server = Server::new(move |asked, stream| match asked.header("authorization") {
        Some("Bearer hush" | "Custom hush" | "Basic dTpodXNo") if asked.path == "/away" => {
            reply(stream, 307, &[&format!("location: {away}")], b"")
        }
        Some("Bearer hush" | "Custom hush" | "Basic dTpodXNo") => reply(stream, 200, &[], b"body"),
        _ => reply(stream, 401, &[], b"who are you"),
    });
    let url = server.url("/x");
    let error = world
        .run(&world.request(&format!("FROM scratch\nADD {url} /\n")))
        .error();
    assert!(
        error.contains(&format!("failed to fetch {url}: invalid response status 401")),
        "{error}"
    );
    for (name, value) in [
        (format!("HTTP_AUTH_TOKEN_{}", server.authority), "hush\n"),
        ("HTTP_AUTH_HEADER_127.0.0.1".to_owned(), "Custom hush"),
    ] {
        world.secrets = [(name, value.as_bytes().to_vec())].into();
        world.build(&format!("FROM scratch\nADD {url} /\n"));
        world.build(&format!("FROM scratch\nADD {} /\n", server.url("/away")));
    }
    assert!(
        other
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
    world.secrets.clear();
    let named = format!("http://u:hush@{}/x", server.authority);
    let (image, outcome) = world.build(&format!("FROM scratch\nADD {named} /\n"));
    let shown = format!("{:?} {:?}", image.config, outcome.events);
    assert!(!shown.contains("hush"), "{shown}");
    let wrong = format!("http://u:wrong-hush@{}/y", server.authority);
    let outcome = world.run(&world.request(&format!("FROM scratch\nARG U={wrong}\nADD $U /\n")));
    assert!(!outcome.error().contains("wrong-hush"), "{}", outcome.error());
}

/// Servers that lie, and what may not be asked for; nothing is left behind.
fn url_hostile() {
    let world = World::new();
    let server = Server::new(|asked, stream| match asked.path.as_str() {
        "/loop" => reply(stream, 302, &["location: /loop"], b""),
        "/file" => reply(stream, 302, &["location: file:///etc/passwd"], b""),
        "/nowhere" => reply(stream, 302, &[], b""),
        "/missing" => reply(stream, 404, &[], b"no"),
        "/unasked" => reply(stream, 304, &[], b""),
        "/short" => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this"),
        "/garbage" => stream.write_all(b"\0\0\0\r\n\r\n"),
        "/slip.tar" => reply(stream, 200, &[], &slip()),
        _ => reply(stream, 200, &[], b"body"),
    });
    for (instruction, expected) in [
        ("ADD URL/loop /", "more than 10 redirects"),
        (
            "ADD URL/file /",
            "a redirect to a URL that is neither http nor https",
        ),
        ("ADD URL/nowhere /", "a redirect without a location"),
        ("ADD URL/missing /", "invalid response status 404"),
        ("ADD URL/unasked /", "invalid response status 304"),
        ("ADD URL/short /", "9 of 100 bytes came"),
        ("ADD URL/garbage /", "no status"),
        ("ADD --unpack=true URL/slip.tar /d/", "../slipped"),
        (
            "ADD --checksum=sha256:ZEROS URL/x /",
            "digest mismatch: expected sha256:0000",
        ),
        (
            "ADD --checksum=sha512:ZEROSZEROS URL/x /",
            "digest mismatch: expected sha512:0000",
        ),
        ("ADD --checksum=sha384:ZEROS URL/x /", "invalid checksum"),
        (
            "ADD --checksum=sha256:ZEROS URL/x URL/y /",
            "can't be specified for multiple sources",
        ),
        (
            "ADD --checksum=sha256:ZEROS file /",
            "checksum requires HTTP(S) or Git sources",
        ),
        ("ADD http:///x /", "has no host"),
        (
            "ADD http://127.0.0.1:1/x /",
            "failed to fetch http://127.0.0.1:1/x",
        ),
        ("COPY --checksum=x f /", "unknown flag"),
    ] {
        let instruction = instruction
            .replace("URL", &server.url(""))
            .replace("ZEROS", &"0".repeat(64));
        let error = world
            .run(&world.request(&format!("FROM busybox\n{instruction}\n")))
            .error();
        assert!(error.contains(expected), "{instruction}: {error}");
        assert!(error.contains("Dockerfile:2:"), "{instruction}: {error}");
    }
    assert!(!world.dir.path().join("slipped").exists());
    world.assert_clean();
}

/// A tar with one entry that would leave its directory.
fn slip() -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..10].copy_from_slice(b"../slipped");
    header.set_mode(0o644);
    header.set_size(0);
    header.set_cksum();
    [header.as_bytes().as_slice(), &[0; 1024]].concat()
}

/// A body without end, and a server that says nothing, are left within a second.
fn url_cancelled() {
    let world = World::new();
    let server = Server::new(|asked, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            if asked.path == "/endless" {
                stream.write_all(&[0; 65536])?;
            } else {
                std::thread::sleep(Duration::from_millis(20));
                // Ends the thread once nobody listens.
                stream.write_all(b"")?;
                if asked.path != "/silent" || stream.peek(&mut [0]).is_ok_and(|got| got == 0) {
                    return Ok(());
                }
            }
        }
    });
    for path in ["/endless", "/silent"] {
        let request = world.request(&format!("FROM scratch\nADD {} /\n", server.url(path)));
        let cancelled = AtomicBool::new(false);
        let (outcome, stopped) = std::thread::scope(|scope| {
            let thread = scope.spawn(|| world.run_cancellable(&request, &cancelled));
            while server.asked().is_empty() {
                std::thread::yield_now();
            }
            let stopped = Instant::now();
            cancelled.store(true, Ordering::Relaxed);
            (thread.join().unwrap(), stopped)
        });
        assert!(
            matches!(outcome.result, Err(Error::Cancelled)),
            "{path}: {:?}",
            outcome.result
        );
        assert!(
            stopped.elapsed() < Duration::from_secs(1),
            "{path}: {:?}",
            stopped.elapsed()
        );
    }
    world.assert_clean();
}

/// An archive is unpacked; anything else is the Dockerfile. Neither has its `.dockerignore` looked at.
fn url_contexts() {
    let world = World::new();
    world.write("Dockerfile", "FROM scratch\nCOPY a /\n");
    world.write("a", "A");
    world.write(".dockerignore", "a\n");
    let tar = |flag: &str| {
        let output = Command::new("tar")
            .args([flag, ".", "-C"])
            .arg(world.context())
            .arg(".")
            .output()
            .unwrap();
        assert!(output.status.success(), "{flag}");
        output.stdout
    };
    let (gz, xz, bz, plain) = (tar("-cz"), tar("-cJ"), tar("-cj"), tar("-c"));
    let server = Server::new(move |asked, stream| match asked.path.as_str() {
        "/gz" => reply(stream, 200, &["etag: \"1\""], &gz),
        "/xz" => reply(stream, 200, &[], &xz),
        "/bz" => reply(stream, 200, &[], &bz),
        "/tar" => reply(stream, 200, &[], &plain),
        _ => reply(stream, 200, &[], b"FROM busybox\nRUN echo plain > /p\n"),
    });
    for (path, expected) in [
        ("/gz", "a 644 0:0 \"A\""),
        ("/xz", "a 644 0:0 \"A\""),
        ("/bz", "a 644 0:0 \"A\""),
        ("/tar", "a 644 0:0 \"A\""),
        ("/Dockerfile", "p 644 0:0 \"plain\\n\""),
    ] {
        let request = cooper_builder::build::Request {
            context: Context::Remote(server.url(path)),
            dockerfile: None,
            ..world.request("")
        };
        let (image, _) = world.build_request(&request);
        assert_eq!(world.layer(&image, 0), [expected], "{path}");
        let (again, outcome) = world.build_request(&request);
        assert_eq!((again.id, outcome.executed()), (image.id, Vec::new()), "{path}");
    }
    world.assert_clean();
}
