//! From a profile to BPF.
//!
//! Per architecture, syscall numbers are cut into ranges with the same answer, which a balanced tree of comparisons finds:
//! the default profile has some 110 ranges, so seven comparisons decide.

use std::collections::BTreeMap;

use super::arch::{ARM_PRIVATE, X32_BIT};
use super::asm::{Assembler, Compare, Label};
use super::profile::{Action, Condition, Profile, Rule, Test};
use super::{Arch, Program, SeccompError, Target};

const ENOSYS: u16 = 38;

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// Compiles `profile` for `target`. Takes a fraction of a millisecond; the result depends on nothing else, so it can be
/// cached ([`Program::to_bytes`]).
///
/// # Errors
/// [`SeccompError::ProgramTooLarge`] if the kernel would not take it.
pub fn compile(profile: &Profile, target: &Target) -> Result<Program, SeccompError> {
    let rules: Vec<&Rule> = profile.rules.iter().filter(|rule| rule.applies(target)).collect();
    let arches = profile.arches_for(target.arch);
    let mut asm = Assembler::default();
    let kill = asm.ret(Action::KillProcess.value());

    let mut entry = kill;
    // The native architecture's test comes first in the program, so it is written last.
    for arch in arches.iter().rev().filter(|arch| **arch != Arch::X32) {
        let mut code = block(&mut asm, profile, &rules, *arch);
        if *arch == Arch::X86_64 {
            let x32 = if arches.contains(&Arch::X32) {
                block(&mut asm, profile, &rules, Arch::X32)
            } else {
                // A tracer that skips a call sets its number to -1, which is no x32 call.
                let default = asm.ret(profile.default_action.value());
                asm.branch(Compare::Equal, u32::MAX, default, kill)
            };
            code = asm.branch(Compare::GreaterOrEqual, X32_BIT, x32, code);
        }
        let code = asm.load(NR, code);
        entry = asm.branch(Compare::Equal, arch.audit(), code, entry);
    }
    let entry = asm.load(ARCH, entry);
    Program::new(asm.finish(entry), profile.flags)
}

/// Answers for one architecture, the number being in the accumulator.
fn block(asm: &mut Assembler, profile: &Profile, rules: &[&Rule], arch: Arch) -> Label {
    let ranges = ranges(profile.default_action, rules, arch);
    tree(asm, &mut Vec::new(), &ranges, arch.is_wide())
}

/// The answer for one syscall.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    /// In order; the first whose conditions all hold decides.
    conditional: Vec<(Vec<Condition>, Action)>,
    otherwise: Action,
}

/// Answers by ascending first number; each is valid up to the next.
fn ranges(default: Action, rules: &[&Rule], arch: Arch) -> Vec<(u32, Answer)> {
    let (calls, last) = answers(default, rules, arch);
    let plain = |action| Answer {
        conditional: Vec::new(),
        otherwise: action,
    };
    let stub = match last {
        Some(last) if !default.passes() => Some(last.saturating_add(1)),
        _ => None,
    };
    let background = |nr: u32| {
        if stub.is_some_and(|first| nr >= first) {
            Action::Errno(ENOSYS)
        } else {
            default
        }
    };

    let mut starts: BTreeMap<u32, Answer> = BTreeMap::new();
    starts.insert(0, plain(default));
    if let Some(first) = stub {
        starts.insert(first, plain(Action::Errno(ENOSYS)));
    }
    for nr in calls.keys() {
        let next = nr.saturating_add(1);
        starts.insert(next, plain(background(next)));
    }
    starts.extend(calls);

    let mut ranges: Vec<(u32, Answer)> = starts.into_iter().collect();
    ranges.dedup_by(|later, earlier| later.1 == earlier.1);
    ranges
}

/// The calls that rules name, and the highest of them.
fn answers(default: Action, rules: &[&Rule], arch: Arch) -> (BTreeMap<u32, Answer>, Option<u32>) {
    let mut last = None;
    let mut fixed: BTreeMap<u32, Action> = BTreeMap::new();
    let mut conditional: BTreeMap<u32, Vec<(Vec<Condition>, Action)>> = BTreeMap::new();
    for rule in rules {
        for name in &rule.names {
            if let Some(nr) = arch.number(name) {
                // ARM's private calls are far above those a libc probes for.
                if arch != Arch::Arm || nr < ARM_PRIVATE {
                    last = last.max(Some(nr));
                }
                if rule.action == default {
                    continue;
                }
                if rule.conditions.is_empty() {
                    fixed.entry(nr).or_insert(rule.action);
                } else {
                    conditional
                        .entry(nr)
                        .or_default()
                        .push((rule.conditions.clone(), rule.action));
                }
            }
            if rule.action == default || !rule.conditions.is_empty() {
                continue;
            }
            // The multiplexer has the call's arguments in memory, so only rules without conditions carry over.
            if let Some((multiplexer, mask, call)) = arch.multiplexed(name)
                && let Some(nr) = arch.number(multiplexer)
            {
                let test = Test::MaskedEqual {
                    mask: mask.into(),
                    value: call.into(),
                };
                conditional
                    .entry(nr)
                    .or_default()
                    .push((vec![Condition { index: 0, test }], rule.action));
            }
        }
    }
    let mut answers: BTreeMap<u32, Answer> = conditional
        .into_iter()
        .map(|(nr, conditional)| {
            (
                nr,
                Answer {
                    conditional,
                    otherwise: default,
                },
            )
        })
        .collect();
    answers.extend(fixed.into_iter().map(|(nr, action)| {
        (
            nr,
            Answer {
                conditional: Vec::new(),
                otherwise: action,
            },
        )
    }));
    (answers, last)
}

/// Answers with conditions that are already written, of one architecture.
type Shared<'a> = Vec<(&'a Answer, Label)>;

/// Finds the range of the number in the accumulator and answers.
fn tree<'a>(asm: &mut Assembler, shared: &mut Shared<'a>, ranges: &'a [(u32, Answer)], wide: bool) -> Label {
    match ranges {
        [] => asm.ret(Action::KillProcess.value()),
        [(_, answer)] => leaf(asm, shared, answer, wide),
        _ => {
            let (below, above) = ranges.split_at(ranges.len() / 2);
            let no = tree(asm, shared, below, wide);
            let yes = tree(asm, shared, above, wide);
            asm.branch(Compare::GreaterOrEqual, above[0].0, yes, no)
        }
    }
}

fn leaf<'a>(asm: &mut Assembler, shared: &mut Shared<'a>, answer: &'a Answer, wide: bool) -> Label {
    if answer.conditional.is_empty() {
        return asm.ret(answer.otherwise.value());
    }
    // Profiles name many calls with the same conditions.
    if let Some((_, label)) = shared.iter().find(|(known, _)| *known == answer) {
        return *label;
    }
    let mut next = asm.ret(answer.otherwise.value());
    for (conditions, action) in answer.conditional.iter().rev() {
        let mut holds = asm.ret(action.value());
        for condition in conditions.iter().rev() {
            holds = test(asm, condition, wide, holds, next);
        }
        next = holds;
    }
    shared.push((answer, next));
    next
}

fn test(asm: &mut Assembler, condition: &Condition, wide: bool, yes: Label, no: Label) -> Label {
    let arg = Argument {
        offset: ARGS + 8 * u32::from(condition.index),
        wide,
    };
    match condition.test {
        Test::Equal(value) => arg.equal(asm, u64::MAX, value, yes, no),
        Test::NotEqual(value) => arg.equal(asm, u64::MAX, value, no, yes),
        Test::MaskedEqual { mask, value } => arg.equal(asm, mask, value, yes, no),
        Test::Greater(value) => arg.order(asm, Compare::Greater, value, yes, no),
        Test::GreaterOrEqual(value) => arg.order(asm, Compare::GreaterOrEqual, value, yes, no),
        Test::Less(value) => arg.order(asm, Compare::GreaterOrEqual, value, no, yes),
        Test::LessOrEqual(value) => arg.order(asm, Compare::Greater, value, no, yes),
    }
}

/// A 64-bit argument, compared half by half; on 32-bit architectures its upper half counts as 0. Both x86 and the ARM ABIs
/// supported here are little endian.
struct Argument {
    offset: u32,
    wide: bool,
}

impl Argument {
    fn equal(&self, asm: &mut Assembler, mask: u64, value: u64, yes: Label, no: Label) -> Label {
        let (mask_high, mask_low) = halves(mask);
        let (high, low) = halves(value);
        if !self.wide && high != 0 {
            return no;
        }
        let low_half = half_equal(asm, self.offset, mask_low, low, yes, no);
        if self.wide {
            half_equal(asm, self.offset + 4, mask_high, high, low_half, no)
        } else {
            low_half
        }
    }

    /// `compare` is `Greater` or `GreaterOrEqual`.
    fn order(&self, asm: &mut Assembler, compare: Compare, value: u64, yes: Label, no: Label) -> Label {
        let (high, low) = halves(value);
        if !self.wide && high != 0 {
            return no;
        }
        let low_half = asm.branch(compare, low, yes, no);
        if low_half == yes {
            return yes;
        }
        let low_half = asm.load(self.offset, low_half);
        if !self.wide {
            return low_half;
        }
        let not_above = asm.branch(Compare::Equal, high, low_half, no);
        let high_half = asm.branch(Compare::Greater, high, yes, not_above);
        asm.load(self.offset + 4, high_half)
    }
}

fn half_equal(asm: &mut Assembler, offset: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
    if mask == 0 {
        return if value == 0 { yes } else { no };
    }
    let branch = asm.branch(Compare::Equal, value, yes, no);
    if branch == yes {
        return yes;
    }
    let masked = if mask == u32::MAX {
        branch
    } else {
        asm.and(mask, branch)
    };
    asm.load(offset, masked)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
const fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

#[cfg(test)]
mod tests;
