//! Definition keys: what changes them and what does not.

use proptest::prelude::*;

use super::super::step::Action;
use super::world::{plan, request};
use crate::build::Request;

fn key(file: &str, request: &Request) -> String {
    let plan = plan(file, request, &[]).unwrap();
    let state = &plan.images[0].state;
    let id = state.rootfs.unwrap();
    let step = plan.steps.iter().find(|step| step.info.id == id).unwrap();
    step.definition.as_str().to_owned()
}

#[test]
fn what_is_in_them() {
    let base = "FROM busybox\nENV A=1\nRUN x\nCOPY a /\n";
    let same = [
        "FROM busybox:latest\nENV A=1\nRUN x\nCOPY a /\n",
        "# comment\nFROM docker.io/library/busybox AS name\nENV A=1\nLABEL l=1\nCMD c\nRUN x\nCOPY  a   /\n",
        "FROM busybox AS one\nENV A=1\nRUN x\nFROM one\nEXPOSE 80\nCOPY a /\n",
        "FROM busybox\nARG V=1\nENV A=$V\nFROM busybox\nENV A=1\nRUN x\nCOPY a /\n",
    ];
    let other = [
        "FROM busybox:1\nENV A=1\nRUN x\nCOPY a /\n",
        "FROM busybox\nENV A=2\nRUN x\nCOPY a /\n",
        "FROM busybox\nENV A=1\nRUN y\nCOPY a /\n",
        "FROM busybox\nENV A=1\nUSER u\nRUN x\nCOPY a /\n",
        "FROM busybox\nENV A=1\nWORKDIR /w\nRUN x\nCOPY a /\n",
        "FROM busybox\nENV A=1\nRUN x\nCOPY b /\n",
        "FROM busybox\nENV A=1\nRUN x\nCOPY a /b\n",
        "FROM busybox\nENV A=1\nRUN x\nADD a /\n",
        "FROM busybox\nENV A=1\nRUN x\nCOPY --chmod=600 a /\n",
        "FROM busybox\nENV A=1\nRUN x\nCOPY --from=busybox a /\n",
        "FROM busybox\nENV A=1\nRUN --network=none x\nCOPY a /\n",
        "FROM --platform=linux/s390x busybox\nENV A=1\nRUN x\nCOPY a /\n",
    ];
    let mut request = Request {
        network: cooper_runner::spec::NetworkMode::Host,
        ..Request::default()
    };
    let expected = key(base, &request);
    for file in same {
        assert_eq!(key(file, &request), expected, "{file}");
    }
    for file in other {
        assert_ne!(key(file, &request), expected, "{file}");
    }
    request
        .build_args
        .insert("HTTP_PROXY".to_owned(), Some("p".to_owned()));
    assert_eq!(key(base, &request), expected);
    request.no_cache = true;
    assert_ne!(key(base, &request), expected);
}

/// Stages that turn out the same are executed once, whatever they read like.
#[test]
fn equal_steps_are_one() {
    let file = "FROM busybox AS a\nENV V=1\nLABEL a=b\nRUN x\nFROM busybox AS b\nARG N=1\nENV V=$N\nARG N=\nRUN x\nFROM scratch\nCOPY --from=a / /a/\nCOPY --from=b / /b/\n";
    let file = file.replace("ARG N=1\nENV V=$N\nARG N=\n", "ENV   V=1\n");
    let plan = plan(&file, &Request::default(), &[]).unwrap();
    let (runs, same): (Vec<_>, Vec<_>) = plan
        .steps
        .iter()
        .filter(|step| step.info.name.contains("RUN"))
        .partition(|step| matches!(step.action, Action::Run(_)));
    assert_eq!((runs.len(), same.len()), (1, 1));
    assert!(matches!(same[0].action, Action::Same(step) if step == runs[0].info.id));
    let platforms = plan_of_platforms();
    assert_eq!(platforms, 1, "steps of the build platform are shared");
}

fn plan_of_platforms() -> usize {
    let file = "FROM --platform=$BUILDPLATFORM busybox AS b\nRUN x\nFROM scratch\nCOPY --from=b / /\n";
    let plan = plan(file, &request(&["linux/amd64", "linux/arm64"]), &[]).unwrap();
    let runs = plan.steps.iter();
    runs.filter(|step| step.info.name.contains("RUN")).count()
}

/// One stage of a random file: what it stands on, by number of an earlier one, and what it does.
#[derive(Debug, Clone)]
struct Piece {
    base: Option<usize>,
    from: Option<usize>,
    env: u8,
    arg: bool,
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let piece = (
        any::<Option<prop::sample::Index>>(),
        any::<Option<prop::sample::Index>>(),
        0..3_u8,
        any::<bool>(),
    );
    prop::collection::vec(piece, 1..7).prop_map(|list| {
        let choose = |index: Option<prop::sample::Index>, number: usize| {
            index.filter(|_| number > 0).map(|index| index.index(number))
        };
        list.into_iter()
            .enumerate()
            .map(|(number, (base, from, env, arg))| Piece {
                base: choose(base, number),
                from: choose(from, number),
                env,
                arg,
            })
            .collect()
    })
}

/// The file with its stages in `order`, named with `prefix`; those of `extra` are noise.
fn render(pieces: &[Piece], order: &[usize], prefix: &str, extra: bool) -> String {
    let mut text = String::from("ARG GLOBAL=7\n");
    for &number in order {
        if extra {
            text.push_str(&format!(
                "FROM nosuch{number} AS noise{number}\nARG GLOBAL\nRUN noise\n"
            ));
        }
        let piece = &pieces[number];
        let base = piece
            .base
            .map_or_else(|| "busybox".to_owned(), |base| format!("{prefix}{base}"));
        text.push_str(&format!("FROM {base} AS {prefix}{number}\nENV E={}\n", piece.env));
        if piece.arg {
            text.push_str("ARG GLOBAL\n");
        }
        if let Some(from) = piece.from {
            text.push_str(&format!("COPY --from={prefix}{from} /x /copy{number}\n"));
        }
        text.push_str(&format!("RUN run{number}\n"));
    }
    text.push_str("FROM scratch\n");
    for number in 0..pieces.len() {
        text.push_str(&format!("COPY --from={prefix}{number} / /all{number}/\n"));
    }
    text
}

/// An order in which each stage comes after what it needs, chosen by `picks`.
fn order(pieces: &[Piece], picks: &[prop::sample::Index]) -> Vec<usize> {
    let mut done: Vec<usize> = Vec::new();
    for pick in picks.iter().cycle() {
        let ready: Vec<usize> = (0..pieces.len())
            .filter(|number| {
                let piece = &pieces[*number];
                let needs = [piece.base, piece.from];
                !done.contains(number) && needs.iter().flatten().all(|need| done.contains(need))
            })
            .collect();
        if ready.is_empty() {
            break;
        }
        done.push(ready[pick.index(ready.len())]);
    }
    done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Keys are those of what a step does: neither the order of the file, nor names, nor what else is in it matter.
    #[test]
    fn order_names_and_unused_stages_do_not_matter(
        pieces in pieces(),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
    ) {
        let straight: Vec<usize> = (0..pieces.len()).collect();
        let definitions = |file: &str| {
            let plan = plan(file, &Request::default(), &[]).map_err(TestCaseError::fail)?;
            let mut found = plan.definitions();
            // These copy in the order of the file on top of each other.
            found.retain(|key, _| !key.starts_with("/all"));
            Ok::<_, TestCaseError>(found)
        };
        let expected = definitions(&render(&pieces, &straight, "s", false))?;
        let reordered = order(&pieces, &picks);
        for file in [
            render(&pieces, &reordered, "s", false),
            render(&pieces, &straight, "other-name-", false),
            render(&pieces, &reordered, "t", true),
        ] {
            prop_assert_eq!(&definitions(&file)?, &expected, "{}", file);
        }
    }
}
