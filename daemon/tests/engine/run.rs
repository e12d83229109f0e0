//! Containers over the in-process door, as the command line runs them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::rt::TokioIo;
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{Client, busybox_tar, is_root, read};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        Trial::test("run::attach_wait_start_remove", attach_wait_start_remove),
        Trial::test("run::life_cycle", life_cycle),
        Trial::test("run::a_failed_start_says_why", failed_start),
        Trial::test("run::logs_follow_to_the_end", logs_follow),
        Trial::test("run::exec", exec),
        Trial::test("run::images_in_use", images_in_use),
    ]
}

/// An engine with `busybox:latest`.
fn with_busybox(dir: &std::path::Path) -> Result<Option<Client>, Failed> {
    let (true, Some(tar)) = (is_root(), busybox_tar()) else {
        return Ok(None);
    };
    let client = Client::new(dir);
    let answer = client.send(
        "POST",
        "/images/create?fromSrc=-&repo=busybox&changes=CMD%20%5B%22sh%22%5D",
        tar,
    );
    let id = answer.lines()[0]["status"].as_str().map(str::to_owned);
    assert!(
        id.is_some_and(|id| id.starts_with("sha256:")),
        "{}",
        answer.text()
    );
    Ok(Some(client))
}

fn create(client: &Client, name: &str, cmd: &[&str], more: Value, host: Value) -> String {
    let mut body = json!({"Image": "busybox", "Cmd": cmd, "HostConfig": {"NetworkMode": "none"}});
    let merge = |into: &mut Value, from: Value| {
        for (key, value) in from.as_object().cloned().unwrap_or_default() {
            into[key] = value;
        }
    };
    merge(&mut body, more);
    merge(&mut body["HostConfig"], host);
    let answer = client.post(&format!("/containers/create?name={name}"), body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.json()["Warnings"], json!([]));
    answer.json()["Id"].as_str().expect("an id").to_owned()
}

/// stdout and stderr out of frames.
fn unframe(mut bytes: &[u8]) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    while let Some((head, rest)) = bytes.split_at_checked(8) {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (payload, rest) = rest.split_at(length);
        let text = std::str::from_utf8(payload).expect("text");
        if head[0] == 2 {
            err.push_str(text);
        } else {
            out.push_str(text);
        }
        bytes = rest;
    }
    assert!(bytes.is_empty(), "a cut frame");
    (out, err)
}

/// What `run --rm -i` sends, in its order.
fn attach_wait_start_remove() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let Some(client) = with_busybox(dir.path())? else {
        return Ok(());
    };
    let stdin = json!({"OpenStdin": true, "StdinOnce": true, "AttachStdin": true});
    let script = "cat; echo err >&2; exit 7";
    let id = create(
        &client,
        "one",
        &["sh", "-c", script],
        stdin,
        json!({"AutoRemove": true}),
    );
    let (output, wait) = client.block_on(async {
        let attach = Request::post(format!(
            "/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1"
        ))
        .header("connection", "Upgrade")
        .header("upgrade", "tcp")
        .body(Full::new(Bytes::new()))
        .expect("a request");
        let attached = client.open(attach).await;
        assert_eq!(attached.status(), 101);
        assert_eq!(
            attached.headers()["content-type"],
            "application/vnd.docker.multiplexed-stream"
        );
        let mut stream = TokioIo::new(hyper::upgrade::on(attached).await.expect("the connection"));
        let request = |path: String| {
            Request::post(path)
                .body(Full::new(Bytes::new()))
                .expect("a request")
        };
        let waiting = client
            .open(request(format!("/containers/{id}/wait?condition=removed")))
            .await;
        assert_eq!(waiting.status(), 200, "headers come before the exit");
        assert_eq!(
            client
                .open(request(format!("/containers/{id}/start")))
                .await
                .status(),
            204
        );
        let input: String = (0..20_000).map(|number| format!("{number}\n")).collect();
        let (mut from, mut to) = tokio::io::split(&mut stream);
        let send = async {
            to.write_all(input.as_bytes()).await.expect("sent");
            to.shutdown().await.expect("half-closed");
        };
        let mut output = Vec::new();
        let receive = from.read_to_end(&mut output);
        let ((), received) = tokio::join!(send, receive);
        received.expect("received");
        let (out, err) = unframe(&output);
        assert_eq!(
            (out == input, err.as_str()),
            (true, "err\n"),
            "all input comes back before the end"
        );
        (output.len(), read(waiting).await.json())
    });
    assert!(output > 100_000);
    assert_eq!(wait, json!({"StatusCode": 7}));
    assert_eq!(
        client.get(&format!("/containers/{id}/json")).status,
        404,
        "--rm removed it"
    );
    Ok(())
}

fn life_cycle() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let Some(client) = with_busybox(dir.path())? else {
        return Ok(());
    };
    let id = create(
        &client,
        "two",
        &["sleep", "1000"],
        json!({"Labels": {"a": "b"}}),
        json!({"Memory": 64 << 20}),
    );
    let post = |path: &str| {
        let answer = client.post(&format!("/containers/{path}"), Value::Null);
        (
            answer.status,
            if answer.body.is_empty() {
                String::new()
            } else {
                answer.message()
            },
        )
    };
    let conflict = format!(
        "Conflict. The container name \"/two\" is already in use by container \"{id}\". You have to remove (or rename) \
         that container to be able to reuse that name."
    );
    let again = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "none"}});
    assert_eq!(
        client.post("/containers/create?name=two", again).message(),
        conflict
    );
    let state = || client.get("/containers/two/json").json()["State"]["Status"].clone();
    assert_eq!(state(), "created");
    assert_eq!(
        client.get("/containers/json").json(),
        json!([]),
        "only running ones"
    );
    assert_eq!(post("two/start"), (204, String::new()));
    assert_eq!(post("two/start"), (304, String::new()));
    let list = client
        .get("/containers/json?filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D")
        .json();
    assert_eq!(
        (&list[0]["Names"], &list[0]["State"], &list[0]["Command"]),
        (&json!(["/two"]), &json!("running"), &json!("sleep 1000"))
    );
    assert!(
        list[0]["Status"]
            .as_str()
            .is_some_and(|status| status.starts_with("Up "))
    );
    assert_eq!(post("two/pause"), (204, String::new()));
    assert_eq!(state(), "paused");
    assert_eq!(post("two/unpause"), (204, String::new()));
    assert_eq!(post("two/rename?name=three"), (204, String::new()));
    let refused = client.send("DELETE", "/containers/three", "");
    let text = "cannot remove container \"three\": container is running: stop the container before removing or force remove";
    assert_eq!((refused.status, refused.message().as_str()), (409, text));
    assert_eq!(
        post("three/kill?signal=FOO"),
        (
            400,
            "cannot kill container: three: invalid signal: FOO".to_owned()
        )
    );
    assert_eq!(post("three/stop?t=1"), (204, String::new()));
    assert_eq!(post("three/stop"), (304, String::new()));
    let waited = client.post("/containers/three/wait", Value::Null).json();
    assert_eq!(
        waited,
        json!({"StatusCode": 137}),
        "sleep as pid 1 ignores SIGTERM"
    );
    let not_running = format!("cannot kill container: three: container {id} is not running");
    assert_eq!(post("three/kill"), (409, not_running));
    assert_eq!(client.send("DELETE", "/containers/three", "").status, 204);
    assert_eq!(client.get("/containers/json?all=1").json(), json!([]));
    Ok(())
}

fn failed_start() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let Some(client) = with_busybox(dir.path())? else {
        return Ok(());
    };
    for (name, program, words, code) in [
        ("no", "nonexist", "executable file not found", 127),
        ("dir", "/etc", "permission denied", 126),
    ] {
        create(&client, name, &[program], json!({}), json!({}));
        let answer = client.post(&format!("/containers/{name}/start"), Value::Null);
        assert_eq!(answer.status, 400);
        assert!(answer.message().contains(words), "{}", answer.message());
        let state = client.get(&format!("/containers/{name}/json")).json()["State"].clone();
        assert_eq!(
            (&state["Status"], &state["ExitCode"]),
            (&json!("created"), &json!(code))
        );
        assert_eq!(
            client
                .send("DELETE", &format!("/containers/{name}?force=1"), "")
                .status,
            204
        );
    }
    Ok(())
}

fn logs_follow() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let Some(client) = with_busybox(dir.path())? else {
        return Ok(());
    };
    let config = json!({"LogConfig": {"Type": "json-file", "Config": {"max-size": "20k", "max-file": "50"}}});
    let script = "for i in $(seq 1 3000); do echo line $i; done; sleep 0.2; echo end >&2";
    create(&client, "log", &["sh", "-c", script], json!({}), config);
    assert_eq!(client.post("/containers/log/start", Value::Null).status, 204);
    let (out, err) = unframe(&client.get("/containers/log/logs?stdout=1&stderr=1&follow=1").body);
    let expected: String = (1..=3000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(
        (out == expected, err.as_str()),
        (true, "end\n"),
        "{} bytes over rotated files",
        out.len()
    );
    let (out, err) = unframe(&client.get("/containers/log/logs?stdout=1&stderr=1&tail=2").body);
    assert_eq!((out.as_str(), err.as_str()), ("line 3000\n", "end\n"));
    let none = client.get("/containers/log/logs");
    assert_eq!(
        (none.status, none.message().as_str()),
        (400, "Bad parameters: you must choose at least one stream")
    );
    assert_eq!(client.send("DELETE", "/containers/log", "").status, 204);
    Ok(())
}

fn exec() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let Some(client) = with_busybox(dir.path())? else {
        return Ok(());
    };
    create(
        &client,
        "ex",
        &["sleep", "1000"],
        json!({"Env": ["A=1"]}),
        json!({}),
    );
    let body = json!({"Cmd": ["sh", "-c", "echo $A$B; exit 3"], "Env": ["B=2"], "AttachStdout": true});
    assert_eq!(
        client.post("/containers/ex/exec", body.clone()).status,
        409,
        "not running"
    );
    assert_eq!(client.post("/containers/ex/start", Value::Null).status, 204);
    let id = client.post("/containers/ex/exec", body).json()["Id"]
        .as_str()
        .ok_or("an id")?
        .to_owned();
    let started = client.post(&format!("/exec/{id}/start"), json!({}));
    assert_eq!((started.status, unframe(&started.body).0.as_str()), (200, "12\n"));
    let state = client.get(&format!("/exec/{id}/json")).json();
    assert_eq!(
        (&state["Running"], &state["ExitCode"]),
        (&json!(false), &json!(3))
    );
    assert_eq!(
        client.post(&format!("/exec/{id}/start"), json!({})).status,
        409,
        "once only"
    );
    let id = client
        .post("/containers/ex/exec", json!({"Cmd": ["nonexist"]}))
        .json()["Id"]
        .as_str()
        .ok_or("an id")?
        .to_owned();
    let failed = client.post(&format!("/exec/{id}/start"), json!({}));
    assert!(
        unframe(&failed.body).0.contains("executable file not found"),
        "{}",
        failed.text()
    );
    assert_eq!(client.get(&format!("/exec/{id}/json")).json()["ExitCode"], 127);
    assert_eq!(client.send("DELETE", "/containers/ex?force=1", "").status, 204);
    Ok(())
}

fn images_in_use() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let Some(client) = with_busybox(dir.path())? else {
        return Ok(());
    };
    let image = client.get("/images/busybox/json").json();
    assert_eq!(
        (&image["RepoTags"], &image["Config"]["Cmd"]),
        (&json!(["busybox:latest"]), &json!(["sh"]))
    );
    assert_eq!(
        client
            .post("/images/busybox/tag?repo=other&tag=1", Value::Null)
            .status,
        201
    );
    assert_eq!(
        client.send("DELETE", "/images/other:1", "").json(),
        json!([{"Untagged": "other:1"}])
    );
    let id = create(&client, "user", &["true"], json!({}), json!({}));
    let refused = client.send("DELETE", "/images/busybox", "");
    assert_eq!(refused.status, 409);
    let words = format!(
        "unable to remove repository reference \"busybox\" (must force) - container {}",
        &id[..12]
    );
    assert!(refused.message().contains(&words), "{}", refused.message());
    let pruned = client
        .post(
            "/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D",
            Value::Null,
        )
        .json();
    assert_eq!(
        pruned["ImagesDeleted"],
        Value::Null,
        "an image in use is not pruned"
    );
    assert_eq!(client.post("/containers/user/start", Value::Null).status, 204);
    client.post("/containers/user/wait", Value::Null);
    assert_eq!(
        client.post("/containers/prune", Value::Null).json()["ContainersDeleted"],
        json!([id])
    );
    let deleted = client.send("DELETE", "/images/busybox", "").json();
    assert_eq!(deleted[0], json!({"Untagged": "busybox:latest"}));
    assert_eq!(deleted[1]["Deleted"], image["Id"]);
    assert_eq!(client.get("/images/json").json(), json!([]));
    Ok(())
}
