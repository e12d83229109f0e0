//! Versions, errors and shapes; nothing here starts a process.

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::client::Client;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        Trial::test("api::versions", versions),
        Trial::test("api::errors_have_dockers_words", errors),
        Trial::test("api::empty_lists_have_dockers_shape", shapes),
    ]
}

fn versions() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let client = Client::new(dir.path());
    let ping = client.get("/_ping");
    assert_eq!((ping.status, ping.text().as_str()), (200, "OK"));
    for (name, value) in [
        ("api-version", "1.51"),
        ("ostype", "linux"),
        ("builder-version", "1"),
        ("swarm", "inactive"),
    ] {
        assert_eq!(ping.headers[name], value, "{name}");
    }
    let head = client.send("HEAD", "/v1.40/_ping", "");
    assert_eq!(
        (head.status, head.headers["content-length"].to_str()?),
        (200, "0")
    );
    for path in ["/version", "/v1.24/version", "/v1.51/version"] {
        assert_eq!(client.get(path).json()["ApiVersion"], "1.51", "{path}");
    }
    let old = client.get("/v1.10/version");
    assert_eq!(old.status, 400);
    assert_eq!(old.headers["content-type"], "text/plain; charset=utf-8");
    assert!(
        old.text()
            .starts_with("client version 1.10 is too old. Minimum supported API version is 1.24")
    );
    let new = client.get("/v1.99/version");
    let text = "client version 1.99 is too new. Maximum supported API version is 1.51";
    assert_eq!((new.status, new.message().as_str()), (400, text));
    Ok(())
}

fn errors() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let client = Client::new(dir.path());
    let check = |method: &str, path: &str, body: Value, status: u16, message: &str| {
        let bytes = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = client.send(method, path, bytes);
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (status, message),
            "{method} {path}"
        );
    };
    let none = Value::Null;
    check("GET", "/nope", none.clone(), 404, "page not found");
    check("PUT", "/version", none.clone(), 404, "page not found");
    check(
        "GET",
        "/containers/nope/json",
        none.clone(),
        404,
        "No such container: nope",
    );
    check(
        "POST",
        "/containers/nope/start",
        none.clone(),
        404,
        "No such container: nope",
    );
    check(
        "GET",
        "/images/nope/json",
        none.clone(),
        404,
        "No such image: nope:latest",
    );
    check(
        "GET",
        "/images/a/b/c:1/history",
        none.clone(),
        404,
        "No such image: a/b/c:1",
    );
    check(
        "GET",
        "/exec/nope/json",
        none.clone(),
        404,
        "No such exec instance: nope",
    );
    check(
        "GET",
        "/containers/json?filters=foo",
        none.clone(),
        400,
        "invalid filter",
    );
    check(
        "POST",
        "/containers/nope/wait?condition=foo",
        none.clone(),
        400,
        "invalid condition: \"foo\"",
    );
    let create = |host: Value| json!({"Image": "nope", "HostConfig": host});
    let host = json!({"NetworkMode": "none"});
    check(
        "POST",
        "/containers/create",
        create(host.clone()),
        404,
        "No such image: nope:latest",
    );
    let name = "Invalid container name (-a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed";
    check("POST", "/containers/create?name=-a", create(host), 400, name);
    let bridge = "bridge networks are not available yet: choose --network host or --network none";
    check(
        "POST",
        "/containers/create",
        create(json!({"NetworkMode": "bridge"})),
        400,
        bridge,
    );
    let init = "HostConfig.Init is not implemented by this engine yet";
    check(
        "POST",
        "/containers/create",
        create(json!({"NetworkMode": "none", "Init": true})),
        501,
        init,
    );
    check(
        "GET",
        "/networks/nope",
        none.clone(),
        404,
        "network nope not found",
    );
    check(
        "GET",
        "/volumes/nope",
        none.clone(),
        404,
        "get nope: no such volume",
    );
    assert_eq!(client.get("/swarm").status, 503);
    assert_eq!(client.get("/images/search").status, 501);
    let context = client.send("POST", "/build?cooper-context=relative", "");
    assert_eq!(
        (context.status, context.message().as_str()),
        (400, "cooper-context must be an absolute path")
    );
    Ok(())
}

fn shapes() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let client = Client::new(dir.path());
    assert_eq!(client.get("/containers/json?all=1").json(), json!([]));
    assert_eq!(client.get("/images/json").json(), json!([]));
    assert_eq!(
        client.get("/volumes").json(),
        json!({"Volumes": [], "Warnings": null})
    );
    let prune = client.post("/images/prune", Value::Null).json();
    assert_eq!(prune, json!({"ImagesDeleted": null, "SpaceReclaimed": 0}));
    let networks = client.get("/networks").json();
    let names: Vec<_> = networks
        .as_array()
        .ok_or("a list")?
        .iter()
        .map(|network| &network["Name"])
        .collect();
    assert_eq!(names, ["none", "host"]);
    let info = client.get("/info").json();
    assert_eq!(
        (&info["OSType"], &info["Containers"], &info["DefaultRuntime"]),
        (&json!("linux"), &json!(0), &json!("cooper"))
    );
    let usage = client.get("/system/df").json();
    assert_eq!(
        (&usage["Images"], &usage["Containers"], &usage["BuildCache"]),
        (&json!([]), &json!([]), &json!([]))
    );
    Ok(())
}
