//! ADD of git repositories and git contexts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cooper_builder::build::Context;

use crate::server::{GitDaemon, Server, git, reply};
use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("git_references", git_references),
    ("git_cache", git_cache),
    ("git_over_http", git_over_http),
    ("git_hostile", git_hostile),
    ("git_contexts", git_contexts),
];

/// A repository with two commits on main, a branch, tags and a submodule; gives both commits.
fn repository(base: &Path) -> (PathBuf, [String; 2]) {
    let work = base.join("work");
    fs::create_dir_all(work.join("sub/deep")).unwrap();
    git(&work, &["init", "-q"]);
    fs::write(work.join("f"), "one").unwrap();
    fs::write(work.join("sub/deep/g"), "deep").unwrap();
    fs::write(work.join("run.sh"), "#!/bin/sh").unwrap();
    fs::set_permissions(
        work.join("run.sh"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    fs::set_permissions(
        work.join("f"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    symlink("f", work.join("link")).unwrap();
    symlink("/etc", work.join("out")).unwrap();
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-qm", "one"]);
    let one = git(&work, &["rev-parse", "HEAD"]);
    git(&work, &["tag", "-a", "-m", "v", "v1"]);
    git(&work, &["branch", "side"]);
    fs::write(work.join("f"), "two").unwrap();
    git(&work, &["commit", "-qam", "two"]);
    let two = git(&work, &["rev-parse", "HEAD"]);
    git(base, &["clone", "-q", "--bare", "work", "r.git"]);
    (base.join("r.git"), [one, two])
}

fn git_references() {
    let world = World::new();
    let base = world.dir.path().join("git");
    let (_, [one, two]) = repository(&base);
    let daemon = GitDaemon::new(&base);
    let url = format!("git://{}/r.git", daemon.authority);
    for (instruction, expected) in [
        ("ADD URL /r", "r/f 644 0:0 \"two\"".to_owned()),
        ("ADD URL /r", "r/run.sh 755 0:0 \"#!/bin/sh\"".to_owned()),
        ("ADD URL /r", "r/link 777 0:0 -> f".to_owned()),
        ("ADD URL#main /r", "r/f 644 0:0 \"two\"".to_owned()),
        ("ADD URL#v1 /r", "r/f 644 0:0 \"one\"".to_owned()),
        ("ADD URL#side /r", "r/f 644 0:0 \"one\"".to_owned()),
        ("ADD URL#refs/tags/v1 /r", "r/f 644 0:0 \"one\"".to_owned()),
        ("ADD URL#ONE /r", "r/f 644 0:0 \"one\"".to_owned()),
        ("ADD URL#main:sub/deep /r", "r/g 644 0:0 \"deep\"".to_owned()),
        (
            "ADD URL?branch=side&subdir=sub /r",
            "r/deep/g 644 0:0 \"deep\"".to_owned(),
        ),
        (
            "ADD URL?tag=v1&commit=ONE&fetch-by-commit=1 /r",
            "r/f 644 0:0 \"one\"".to_owned(),
        ),
        (
            "ADD --checksum=SHORT URL#main /r",
            "r/f 644 0:0 \"two\"".to_owned(),
        ),
        (
            "ADD --keep-git-dir=true URL /r",
            format!("r/.git/HEAD 644 0:0 \"{two}\\n\""),
        ),
        (
            "ADD --exclude=run.sh --chown=user --chmod=g-r URL /r",
            "r/f 604 1000:1001 \"two\"".to_owned(),
        ),
    ] {
        let instruction = instruction
            .replace("URL", &url)
            .replace("ONE", &one)
            .replace("SHORT", &two[..10]);
        let (image, _) = world.build(&format!("FROM busybox\n{instruction}\n"));
        let files = world.layer(&image, 0);
        assert!(files.contains(&expected), "{instruction}: {files:?}");
        let hidden = |entry: &String| entry.contains(".git") || entry.contains("run.sh");
        let count = files.iter().filter(|entry| hidden(entry)).count();
        assert!(
            instruction.contains("--keep") || count <= 1,
            "{instruction}: {files:?}"
        );
    }
    let (image, _) = world.build(&format!("FROM scratch\nADD {url}?mtime=commit /\n"));
    let layer = world
        .store
        .layer(&image.config.rootfs.diff_ids[0])
        .unwrap()
        .unwrap();
    use std::os::unix::fs::MetadataExt as _;
    for path in ["f", "sub", "sub/deep/g"] {
        assert_eq!(
            fs::metadata(layer.tree.join(path)).unwrap().mtime(),
            1_000_000_000,
            "{path}"
        );
    }
    world.assert_clean();
}

/// Only the reference is asked for again; a moved branch is noticed; a known commit needs no server.
fn git_cache() {
    let world = World::new();
    let base = world.dir.path().join("git");
    let (_, [one, _]) = repository(&base);
    let daemon = GitDaemon::new(&base);
    let url = format!("git://{}/r.git", daemon.authority);
    let dockerfile = format!("FROM scratch\nADD {url}#main /r\n");
    let (first, _) = world.build(&dockerfile);
    let pinned = format!("FROM scratch\nADD {url}#{one} /r\n");
    world.build(&pinned);
    let (second, outcome) = world.build(&dockerfile);
    assert_eq!((first.id, outcome.executed()), (second.id, Vec::new()));
    let work = base.join("work");
    fs::write(work.join("f"), "three").unwrap();
    git(&work, &["commit", "-qam", "three"]);
    git(&work, &["push", "-q", "../r.git", "main"]);
    let (third, _) = world.build(&dockerfile);
    assert!(
        world
            .layer(&third, 0)
            .contains(&"r/f 644 0:0 \"three\"".to_owned())
    );
    drop(daemon);
    let (_, outcome) = world.build(&pinned);
    assert_eq!(outcome.executed(), Vec::<String>::new());
}

/// A plain web server with the repository's files, which knows no shallow clones; credentials go with each request.
fn git_over_http() {
    let mut world = World::new();
    let base = world.dir.path().join("git");
    let (bare, _) = repository(&base);
    git(&bare, &["update-server-info"]);
    let root = base.clone();
    let server = Server::new(move |asked, stream| {
        // x-access-token:hush
        if asked.header("authorization") != Some("Basic eC1hY2Nlc3MtdG9rZW46aHVzaA==") {
            return reply(stream, 401, &["www-authenticate: Basic"], b"");
        }
        let path = asked
            .path
            .split('?')
            .next()
            .unwrap_or("")
            .trim_start_matches('/')
            .to_owned();
        match fs::read(root.join(path)) {
            Ok(bytes) => reply(stream, 200, &[], &bytes),
            Err(_) => reply(stream, 404, &[], b""),
        }
    });
    let dockerfile = format!("FROM scratch\nADD {} /r\n", server.url("/r.git#v1"));
    let error = world.run(&world.request(&dockerfile)).error();
    assert!(error.contains("failed to fetch http://"), "{error}");
    world.secrets = [("GIT_AUTH_TOKEN".to_owned(), b"hush".to_vec())].into();
    let (image, outcome) = world.build(&dockerfile);
    assert!(world.layer(&image, 0).contains(&"r/f 644 0:0 \"one\"".to_owned()));
    assert!(!format!("{:?}", outcome.events).contains("hush"));
    // The token is in no file of a kept git directory either.
    let kept = format!(
        "FROM scratch\nADD --keep-git-dir=true {} /r\n",
        server.url("/r.git#v1")
    );
    let (image, _) = world.build(&kept);
    let files = world.layer(&image, 0).concat();
    assert!(
        files.contains("r/.git/config") && !files.contains("hush") && !files.contains("aHVzaA"),
        "{files}"
    );
    world.secrets = [("GIT_AUTH_TOKEN".to_owned(), b"very-wrong".to_vec())].into();
    let error = world
        .run(&world.request(&format!("FROM scratch\nADD {} /r\n", server.url("/r.git#side"))))
        .error();
    assert!(!error.contains("very-wrong"), "{error}");
    world.assert_clean();
}

/// URLs that would make git do something else, repositories that would do something here, and clear errors.
fn git_hostile() {
    let world = World::new();
    let base = world.dir.path().join("git");
    let (bare, [one, two]) = repository(&base);
    let marker = world.dir.path().join("marker");
    // A submodule that git must not fetch, and hooks of the server, which are the server's.
    let work = base.join("work");
    fs::write(
        work.join(".gitmodules"),
        format!(
            "[submodule \"m\"]\n path = m\n url = {}\n",
            base.join("r.git").display()
        ),
    )
    .unwrap();
    git(
        &work,
        &["update-index", "--add", "--cacheinfo", &format!("160000,{one},m")],
    );
    git(&work, &["add", ".gitmodules"]);
    git(&work, &["commit", "-qm", "modules"]);
    git(&work, &["push", "-q", "../r.git", "main:modules"]);
    fs::write(
        bare.join("hooks/post-checkout"),
        format!("#!/bin/sh\ntouch {}\n", marker.display()),
    )
    .unwrap();
    let daemon = GitDaemon::new(&base);
    let url = format!("git://{}/r.git", daemon.authority);
    for (instruction, expected) in [
        ("ADD URL#nosuch /", "repository does not contain ref nosuch"),
        ("ADD URL#main:nosuch /", "the repository has no directory nosuch"),
        ("ADD URL#main:f /", "the repository has no directory f"),
        ("ADD URL#main:out /", "the repository has no directory out"),
        ("ADD URL#main:../.. /", "invalid git subdirectory"),
        ("ADD URL#--upload-pack=touch$IFS/x /", "invalid git reference"),
        ("ADD URL?ref=a&ref=b /", "is given twice"),
        ("ADD URL?nope=1 /", "unexpected query parameter \"nope\""),
        ("ADD --checksum=TWO URL#v1 /", "expected commit TWO, got ONE"),
        ("ADD --checksum=xyz URL#v1 /", "invalid commit \"xyz\""),
        (
            "ADD URL#0123456789012345678901234567890123456789 /",
            "could not be fetched",
        ),
        ("ADD git@host:--upload-pack=x /", "invalid git URL"),
        ("ADD git@host:o/r.git /", "the client forwards no ssh agent"),
        ("ADD ssh://-oProxyCommand=x/r /", "invalid git URL"),
        ("ADD ext::sh%20-c%20x /", "not found"),
        ("ADD file:///etc/r.git /", "not found"),
        ("ADD URL#modules /", "transport 'file' not allowed"),
    ] {
        let fill = |text: &str| {
            text.replace("ADD URL", &format!("ADD {url}"))
                .replace(" URL#", &format!(" {url}#"))
                .replace("ONE", &one)
                .replace("TWO", &two)
        };
        let instruction = fill(instruction);
        let error = world
            .run(&world.request(&format!("FROM scratch\n{instruction}\n")))
            .error();
        assert!(error.contains(&fill(expected)), "{instruction}: {error}");
        assert!(error.contains("Dockerfile:2:"), "{instruction}: {error}");
    }
    let (image, _) = world.build(&format!(
        "FROM scratch\nADD {url}?branch=modules&submodules=false /\n"
    ));
    assert!(
        world
            .layer(&image, 0)
            .iter()
            .any(|entry| entry.starts_with("m 755"))
    );
    assert!(!marker.exists());
    world.assert_clean();
}

/// A repository as the context: a subdirectory of it, its `.dockerignore` without effect, links resolved inside.
fn git_contexts() {
    let world = World::new();
    let base = world.dir.path().join("git");
    let (_, _) = repository(&base);
    let work = base.join("work");
    for dir in ["", "sub/"] {
        fs::write(
            work.join(format!("{dir}Dockerfile")),
            "FROM scratch\nCOPY deep* f* link* /c/\n",
        )
        .unwrap();
        fs::write(work.join(format!("{dir}.dockerignore")), "f\ndeep\n").unwrap();
    }
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-qm", "context"]);
    git(&work, &["push", "-q", "../r.git", "main"]);
    let daemon = GitDaemon::new(&base);
    for (fragment, expected) in [
        (
            "",
            &["c 755 0:0 dir", "c/f 644 0:0 \"two\"", "c/link 644 0:0 \"two\""][..],
        ),
        ("#main:sub", &["c 755 0:0 dir", "c/g 644 0:0 \"deep\""][..]),
    ] {
        let request = cooper_builder::build::Request {
            context: Context::Remote(format!("git://{}/r.git{fragment}", daemon.authority)),
            dockerfile: None,
            ..world.request("")
        };
        let (image, _) = world.build_request(&request);
        assert_eq!(world.layer(&image, 0), expected, "{fragment}");
    }
    let request = cooper_builder::build::Request {
        context: Context::Remote("nowhere/at/all".to_owned()),
        ..world.request("FROM scratch\n")
    };
    assert!(world.run(&request).error().contains("invalid remote context"));
    world.assert_clean();
}
