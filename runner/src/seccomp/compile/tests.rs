use proptest::prelude::*;

use super::super::interpreter;
use super::*;
use crate::caps::{self, CapSet};

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const EPERM: u32 = 0x0005_0001;
const NOSYS: u32 = 0x0005_0026;

fn target(arch: Arch, caps: CapSet) -> Target {
    Target {
        arch,
        caps,
        kernel: (6, 1),
    }
}

fn answer(program: &Program, arch: Arch, name: &str, args: &[u64]) -> u32 {
    let nr = arch
        .number(name)
        .unwrap_or_else(|| panic!("{arch:?} has no {name}"));
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    interpreter::run(&program.instructions, arch.audit(), nr, all).0
}

#[test]
fn default_profile_denies_what_docker_denies() {
    let plain = compile(
        &Profile::docker_default(),
        &target(Arch::X86_64, CapSet::docker_default()),
    )
    .unwrap();
    let mut caps = CapSet::docker_default();
    caps.insert(caps::number("CAP_SYS_ADMIN").unwrap());
    let admin = compile(&Profile::docker_default(), &target(Arch::X86_64, caps)).unwrap();

    let check = |name: &str, args: &[u64], expected: u32, as_admin: u32| {
        for arch in [Arch::X86_64, Arch::X32] {
            assert_eq!(
                answer(&plain, arch, name, args),
                expected,
                "{arch:?} {name} {args:x?}"
            );
            assert_eq!(
                answer(&admin, arch, name, args),
                as_admin,
                "{arch:?} {name} {args:x?} as admin"
            );
        }
    };
    for name in [
        "mount",
        "umount2",
        "unshare",
        "setns",
        "bpf",
        "fsopen",
        "open_tree",
        "perf_event_open",
        "sethostname",
    ] {
        check(name, &[], EPERM, ALLOW);
    }
    for name in [
        "keyctl",
        "add_key",
        "io_uring_setup",
        "io_uring_enter",
        "userfaultfd",
        "kexec_load",
        "reboot",
        "acct",
    ] {
        check(name, &[], EPERM, EPERM);
    }
    for name in [
        "read",
        "execve",
        "chroot",
        "ptrace",
        "openat2",
        "rseq",
        "arch_prctl",
        "modify_ldt",
    ] {
        check(name, &[], ALLOW, ALLOW);
    }
    check("clone3", &[], NOSYS, ALLOW);
    check("clone", &[0x11], ALLOW, ALLOW);
    check("clone", &[0x1000_0000], EPERM, ALLOW);
    check("clone", &[0x0002_0011], EPERM, ALLOW);
    check("clone", &[0x0000_0080], ALLOW, ALLOW);
    check("socket", &[2, 1, 0], ALLOW, ALLOW);
    check("socket", &[37], ALLOW, ALLOW);
    check("socket", &[38], EPERM, EPERM);
    check("socket", &[39], ALLOW, ALLOW);
    check("socket", &[40], EPERM, EPERM);
    check("socket", &[41], ALLOW, ALLOW);
    check("personality", &[0xffff_ffff], ALLOW, ALLOW);
    check("personality", &[0x0002_0008], ALLOW, ALLOW);
    check("personality", &[0x0004_0000], EPERM, EPERM);
}

#[test]
fn socket_domain_cannot_hide_above_32_bits() {
    let program = compile(&Profile::docker_default(), &target(Arch::X86_64, CapSet::all())).unwrap();
    for domain in [38, 40, 2] {
        assert_eq!(
            answer(&program, Arch::X86_64, "socket", &[0x1_0000_0000 | domain]),
            EPERM
        );
        // An x32 call takes the lower half.
        let expected = if domain == 2 { ALLOW } else { EPERM };
        assert_eq!(
            answer(&program, Arch::X32, "socket", &[0x1_0000_0000 | domain]),
            expected
        );
    }
}

#[test]
fn architectures_are_told_apart() {
    let default = Profile::docker_default();
    let program = compile(&default, &target(Arch::X86_64, CapSet::docker_default())).unwrap();
    let check = |audit: u32, nr: u32, expected: u32| {
        assert_eq!(
            interpreter::run(&program.instructions, audit, nr, [0; 6]).0,
            expected,
            "{audit:#x} {nr}"
        );
    };
    check(Arch::X86_64.audit(), 0, ALLOW);
    check(Arch::X86.audit(), 3, ALLOW);
    check(Arch::X86.audit(), 21, EPERM); // mount
    check(Arch::X86.audit(), 435, NOSYS); // clone3
    check(Arch::Aarch64.audit(), 63, KILL);
    check(0, 0, KILL);
    // The newest call that the profile names is removexattrat, 466.
    check(Arch::X86_64.audit(), 466, ALLOW);
    check(Arch::X86_64.audit(), 467, NOSYS);
    check(Arch::X86_64.audit(), 334, ALLOW); // rseq
    check(Arch::X86_64.audit(), 400, EPERM); // a hole in the table
    check(Arch::X86_64.audit(), X32_BIT - 1, NOSYS);
    check(Arch::X86_64.audit(), u32::MAX, NOSYS);
    check(Arch::X86_64.audit(), X32_BIT, ALLOW); // x32 read

    let program = compile(&default, &target(Arch::Aarch64, CapSet::docker_default())).unwrap();
    assert_eq!(answer(&program, Arch::Aarch64, "openat", &[]), ALLOW);
    assert_eq!(answer(&program, Arch::Aarch64, "mount", &[]), EPERM);
    assert_eq!(answer(&program, Arch::Arm, "open", &[]), ALLOW);
    assert_eq!(answer(&program, Arch::Arm, "set_tls", &[]), ALLOW);
    assert_eq!(
        interpreter::run(&program.instructions, Arch::X86_64.audit(), 0, [0; 6]).0,
        KILL
    );
}

#[test]
fn x32_calls_kill_when_the_profile_has_no_x32() {
    let profile = Profile::parse(br#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap();
    let program = compile(&profile, &target(Arch::X86_64, CapSet::empty())).unwrap();
    let run = |nr| interpreter::run(&program.instructions, Arch::X86_64.audit(), nr, [0; 6]).0;
    assert_eq!(run(100_000), ALLOW);
    assert_eq!(run(X32_BIT), KILL);
    assert_eq!(run(u32::MAX), ALLOW);
}

#[test]
fn default_profile_is_small_and_shallow() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let program = compile(
            &Profile::docker_default(),
            &target(arch, CapSet::docker_default()),
        )
        .unwrap();
        assert!(
            program.instructions.len() < 900,
            "{} instructions",
            program.instructions.len()
        );
        for nr in 0..500 {
            let (_, steps) = interpreter::run(&program.instructions, arch.audit(), nr, [0; 6]);
            assert!(steps < 24, "{nr}: {steps} steps");
        }
        let again = Program::from_bytes(&program.to_bytes()).unwrap();
        assert_eq!(again, program);
    }
}

/// Every operator on both widths, around the edges of the halves.
#[test]
fn operators_compare_64_bits() {
    let values = [
        0,
        1,
        5,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0005,
        0x5_0000_0001,
        u64::MAX - 1,
        u64::MAX,
    ];
    for op in ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"] {
        for value in values {
            for two in [0, 1, 0x1_0000_0000] {
                let json = format!(
                    r#"{{"defaultAction":"SCMP_ACT_KILL","syscalls":[{{"name":"read","action":"SCMP_ACT_TRACE","errnoRet":9,
                    "args":[{{"index":5,"value":{value},"valueTwo":{two},"op":"SCMP_CMP_{op}"}}]}}]}}"#
                );
                let profile = Profile::parse(json.as_bytes()).unwrap();
                let program = compile(&profile, &target(Arch::X86_64, CapSet::empty())).unwrap();
                for arg in values {
                    let holds = match op {
                        "NE" => arg != value,
                        "LT" => arg < value,
                        "LE" => arg <= value,
                        "EQ" => arg == value,
                        "GE" => arg >= value,
                        "GT" => arg > value,
                        _ => arg & value == two & value,
                    };
                    let got = answer(&program, Arch::X86_64, "read", &[0, 0, 0, 0, 0, arg]);
                    assert_eq!(
                        got == 0x7ff0_0009,
                        holds,
                        "{arg:#x} {op} {value:#x} {two:#x}: {got:#x}"
                    );
                }
            }
        }
    }
}

#[test]
fn rules_combine_as_in_runc() {
    let check = |rules: &str, args: &[u64], expected: u32| {
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}"#);
        let program = compile(
            &Profile::parse(json.as_bytes()).unwrap(),
            &target(Arch::X86_64, CapSet::empty()),
        )
        .unwrap();
        assert_eq!(
            answer(&program, Arch::X86_64, "read", args),
            expected,
            "{rules} {args:?}"
        );
    };
    let arg = |index: u32, value: u64| format!(r#"{{"index":{index},"value":{value},"op":"SCMP_CMP_EQ"}}"#);
    let rule = |action: &str, args: &str| {
        format!(r#"{{"names":["nope","read"],"action":"SCMP_ACT_{action}","args":[{args}]}}"#)
    };
    let both = rule("ALLOW", &format!("{},{}", arg(0, 1), arg(1, 2)));
    check(&both, &[1, 2], ALLOW);
    check(&both, &[1, 3], EPERM);
    let same = rule("ALLOW", &format!("{},{}", arg(0, 1), arg(0, 2)));
    check(&same, &[1], ALLOW);
    check(&same, &[2], ALLOW);
    check(&same, &[3], EPERM);
    let unconditional_wins = format!("{},{}", rule("LOG", &arg(0, 1)), rule("ALLOW", ""));
    check(&unconditional_wins, &[1], ALLOW);
    let first_wins = format!("{},{}", rule("LOG", ""), rule("ALLOW", ""));
    check(&first_wins, &[], 0x7ffc_0000);
    let default_is_no_rule = format!("{},{}", rule("ERRNO", ""), rule("ALLOW", ""));
    check(&default_is_no_rule, &[], ALLOW);
    check(
        r#"{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":13}"#,
        &[],
        0x0005_000d,
    );
    let when = |key: &str, when: &str| {
        format!(r#"{{"names":["read"],"action":"SCMP_ACT_ALLOW","{key}":{{{when}}}}}"#)
    };
    check(&when("includes", r#""minKernel":"6.1""#), &[], ALLOW);
    check(&when("includes", r#""minKernel":"6.2""#), &[], EPERM);
    check(&when("excludes", r#""minKernel":"6.1""#), &[], EPERM);
    check(&when("includes", r#""arches":["amd64"]"#), &[], ALLOW);
    check(&when("includes", r#""arches":["arm64"]"#), &[], EPERM);
    check(&when("excludes", r#""arches":["amd64"]"#), &[], EPERM);
    check(&when("includes", r#""caps":["CAP_CHOWN"]"#), &[], EPERM);
    check(&when("excludes", r#""caps":["CAP_CHOWN"]"#), &[], ALLOW);
}

#[test]
fn denying_a_call_denies_its_multiplexed_twin() {
    let json = br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
        "syscalls":[{"names":["socket","shmget"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let program = compile(
        &Profile::parse(json).unwrap(),
        &target(Arch::X86_64, CapSet::empty()),
    )
    .unwrap();
    assert_eq!(answer(&program, Arch::X86, "socketcall", &[1]), EPERM);
    assert_eq!(answer(&program, Arch::X86, "socketcall", &[2]), ALLOW);
    assert_eq!(answer(&program, Arch::X86, "ipc", &[0x1_0017]), EPERM);
    assert_eq!(answer(&program, Arch::X86_64, "socket", &[]), EPERM);
}

/// The meaning of a profile, told without ranges, trees or jumps.
fn evaluate(profile: &Profile, target: &Target, arch: Arch, nr: u32, args: [u64; 6]) -> u32 {
    let rules = || profile.rules.iter().filter(|rule| rule.applies(target));
    let naming = |nr: u32| {
        rules()
            .filter(move |rule| rule.action != profile.default_action)
            .filter(move |rule| rule.names.iter().any(|name| arch.number(name) == Some(nr)))
    };
    if let Some(rule) = naming(nr).find(|rule| rule.conditions.is_empty()) {
        return rule.action.value();
    }
    let holds = |condition: &Condition| {
        let arg = args[usize::from(condition.index)];
        let arg = if arch.is_wide() { arg } else { arg & 0xffff_ffff };
        match condition.test {
            Test::NotEqual(value) => arg != value,
            Test::Less(value) => arg < value,
            Test::LessOrEqual(value) => arg <= value,
            Test::Equal(value) => arg == value,
            Test::GreaterOrEqual(value) => arg >= value,
            Test::Greater(value) => arg > value,
            Test::MaskedEqual { mask, value } => arg & mask == value,
        }
    };
    if let Some(rule) = naming(nr).find(|rule| rule.conditions.iter().all(holds)) {
        return rule.action.value();
    }
    let last = rules()
        .flat_map(|rule| &rule.names)
        .filter_map(|name| arch.number(name))
        .max();
    if !profile.default_action.passes() && last.is_some_and(|last| nr > last) {
        return NOSYS;
    }
    profile.default_action.value()
}

fn any_test() -> impl Strategy<Value = Test> {
    let word = prop_oneof![0u64..4, any::<u64>(), (0u64..4).prop_map(|high| high << 32)];
    (0..7, word.clone(), word).prop_map(|(kind, value, mask)| match kind {
        0 => Test::NotEqual(value),
        1 => Test::Less(value),
        2 => Test::LessOrEqual(value),
        3 => Test::Equal(value),
        4 => Test::GreaterOrEqual(value),
        5 => Test::Greater(value),
        _ => Test::MaskedEqual {
            mask,
            value: value & mask,
        },
    })
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::KillThread),
        Just(Action::Trap),
        (1u16..4).prop_map(Action::Errno),
        (0u16..4).prop_map(Action::Trace),
        Just(Action::Log),
        Just(Action::Allow)
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let conditions = prop::collection::vec(
        (0u8..6, any_test()).prop_map(|(index, test)| Condition { index, test }),
        0..4,
    );
    let names = prop::collection::vec(prop::sample::select(Arch::X86_64.table()), 1..12);
    (names, any_action(), conditions).prop_map(|(names, action, conditions)| Rule {
        names: names.into_iter().map(|(name, _)| name.into()).collect(),
        action,
        conditions,
        includes: Default::default(),
        excludes: Default::default(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn compiled_profiles_agree_with_their_meaning(
        default_action in any_action(),
        rules in prop::collection::vec(any_rule(), 0..14),
        calls in prop::collection::vec((0u32..520, prop::array::uniform6(prop_oneof![0u64..4, any::<u64>()])), 100),
    ) {
        let profile = Profile {
            default_action,
            arch_map: vec![(Arch::X86_64, vec![Arch::X32])],
            architectures: Vec::new(),
            rules,
            flags: 0,
        };
        let target = target(Arch::X86_64, CapSet::empty());
        let program = compile(&profile, &target).unwrap();
        prop_assert!(Program::from_bytes(&program.to_bytes()).is_ok());
        for (nr, args) in calls {
            for (arch, nr) in [(Arch::X86_64, nr), (Arch::X32, nr | X32_BIT)] {
                let expected = evaluate(&profile, &target, arch, nr, args);
                let got = interpreter::run(&program.instructions, arch.audit(), nr, args).0;
                prop_assert_eq!(got, expected, "{:?} {} {:x?}", arch, nr, args);
            }
        }
    }

    #[test]
    fn default_profile_agrees_with_its_meaning(
        bits in any::<u64>(), nr in 0u32..520, args in prop::array::uniform6(prop_oneof![0u64..64, any::<u64>()]),
    ) {
        let profile = Profile::docker_default();
        for native in [Arch::X86_64, Arch::Aarch64] {
            let target = target(native, CapSet::from_bits(bits).intersect(CapSet::all()));
            let program = compile(&profile, &target).unwrap();
            for arch in profile.arches_for(native).into_iter().filter(|arch| *arch != Arch::Arm && *arch != Arch::X86) {
                let nr = if arch == Arch::X32 { nr | X32_BIT } else { nr };
                let expected = evaluate(&profile, &target, arch, nr, args);
                let got = interpreter::run(&program.instructions, arch.audit(), nr, args).0;
                prop_assert_eq!(got, expected, "{:?} {} {:x?}", arch, nr, args);
            }
        }
    }
}
