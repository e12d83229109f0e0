//! `--network`, `--security`, `--device` and the options of all RUNs.

use cooper_builder::build::{Entitlement, Request};
use cooper_runner::spec::NetworkMode;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("run_flags::entitlements", entitlements),
    ("run_flags::networks", networks),
    ("run_flags::insecure", insecure),
    ("run_flags::surroundings", surroundings),
];

fn output(world: &World, flags: &str, change: &dyn Fn(&mut Request)) -> String {
    let mut request = world.request(&format!("FROM busybox\nRUN {flags}\n"));
    change(&mut request);
    world.build_request(&request).1.output()
}

fn entitlements() {
    let world = World::new();
    for (flags, column, message) in [
        ("--network=host", 15, "network.host is not allowed"),
        ("--network=hosts", 15, "network mode \"hosts\""),
        ("--network=hosts", 15, "did you mean host?"),
        ("--security=insecure", 16, "security.insecure is not allowed"),
        ("--security=insecur", 16, "did you mean insecure?"),
        ("--device=vendor.com/x=a", 14, "device is not allowed"),
    ] {
        let error = world
            .run(&world.request(&format!("FROM busybox\nRUN {flags} true\n")))
            .error();
        assert!(
            error.contains(message) && error.contains(&format!("Dockerfile:2:{column}")),
            "{flags}: {error}"
        );
    }
    let allowed = |flags: &str| Request {
        allow: [Entitlement::Device].into(),
        ..world.request(&format!("FROM busybox\nRUN {flags} echo ran\n"))
    };
    let (_, outcome) = world.build_request(&allowed("--device=cooper.test/nosuch=a"));
    assert_eq!(outcome.output(), "ran\n");
    let error = world
        .run(&allowed("--device=cooper.test/nosuch=a,required"))
        .error();
    assert!(
        error.contains("device cooper.test/nosuch=a not found") && error.contains("Dockerfile:2:14"),
        "{error}"
    );
    world.assert_clean();
}

fn networks() {
    let world = World::new();
    let interfaces = "grep -c : /proc/net/dev";
    let host = |request: &mut Request| request.allow = [Entitlement::NetworkHost].into();
    assert_eq!(
        output(&world, &format!("--network=none {interfaces}"), &host),
        "1\n"
    );
    assert_eq!(
        output(
            &world,
            &format!("--network=default {interfaces} # default"),
            &host
        ),
        "1\n"
    );
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    let shown = output(&world, "--network=host readlink /proc/self/ns/net", &host);
    assert_eq!(shown.trim(), ours.display().to_string());
    let all = |request: &mut Request| request.network = NetworkMode::Host;
    let shown = output(&world, "readlink /proc/self/ns/net # all", &all);
    assert_eq!(shown.trim(), ours.display().to_string());
    world.assert_clean();
}

fn insecure() {
    let world = World::new();
    let allow = |request: &mut Request| request.allow = [Entitlement::SecurityInsecure].into();
    let script = "sh -c 'grep -E \"^(CapEff|CapBnd|Seccomp):\" /proc/self/status | busybox tr -d \"\\t\"; test -w /proc/sys/kernel && echo proc; echo 1 > /proc/sys/vm/drop_caches && echo writable' 2>/dev/null || true";
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = own
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:\t"))
        .unwrap();
    let shown = output(&world, &format!("--security=insecure {script}"), &allow);
    assert_eq!(
        shown,
        format!("CapEff:{bounding}\nCapBnd:{bounding}\nSeccomp:0\nproc\nwritable\n")
    );
    let shown = output(&world, script, &allow);
    assert!(
        shown.contains("Seccomp:2") && shown.contains("00000000a80425fb") && !shown.contains("writable"),
        "{shown}"
    );
    world.assert_clean();
}

fn surroundings() {
    let world = World::new();
    let change = |request: &mut Request| {
        request.extra_hosts = vec![
            ("db".to_owned(), "10.1.2.3".to_owned()),
            ("gw".to_owned(), "host-gateway".to_owned()),
        ];
        request.ulimits = vec![("nofile".to_owned(), 123, 456), ("core".to_owned(), 0, 0)];
        request.shm_size = Some(1 << 20);
        request
            .build_args
            .insert("BUILDKIT_SANDBOX_HOSTNAME".to_owned(), Some("box".to_owned()));
        request
            .build_args
            .insert("no_proxy".to_owned(), Some("x.y".to_owned()));
    };
    let script = "hostname; grep -E '(db|gw|box)$' /etc/hosts; ulimit -n; ulimit -H -n; grep '/dev/shm' /proc/mounts | grep -c size=1024k; echo $NO_PROXY $no_proxy";
    let shown = output(&world, script, &change);
    assert_eq!(
        shown,
        "box\n127.0.0.1\tbox\n10.1.2.3\tdb\n127.0.0.1\tgw\n123\n456\n1\nx.y x.y\n"
    );
    let change = |request: &mut Request| request.cgroup_parent = Some("cooper-parent/deep".to_owned());
    let shown = output(
        &world,
        "sh -c 'grep -c . /proc/self/cgroup >/dev/null && echo ok'",
        &change,
    );
    assert_eq!(shown, "ok\n");
    let bad = Request {
        cgroup_parent: Some("../../up".to_owned()),
        ..world.request("FROM busybox\nRUN true\n")
    };
    assert!(
        world.run(&bad).error().contains("../../up"),
        "{}",
        world.run(&bad).error()
    );
    world.assert_clean();
}
