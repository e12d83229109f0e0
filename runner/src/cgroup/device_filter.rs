//! Device rules as an eBPF program for `BPF_PROG_TYPE_CGROUP_DEVICE` (v2 has no device files).
//!
//! The program answers 1 or 0 for one access. Like the v1 controller it starts from "deny everything" and lets later rules
//! override earlier ones, so rules are tested from the last to the first. An allow rule matches when it covers everything
//! that is asked for, a deny rule when it covers any of it.

use super::DeviceRule;
use crate::sys::bpf::Insn;

// `struct bpf_cgroup_dev_ctx`, three words: access << 16 | type, major, minor.
const ACCESS_TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

const TYPE_BLOCK: i32 = 1;
const TYPE_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const ACCESS_ALL: i32 = 7;

// Opcodes (`linux/bpf.h`); ALU and jumps on 64 bits with an immediate unless the name says register.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const MOVE: u8 = 0xb7;
const MOVE_REG: u8 = 0xbf;
const JUMP_EQ: u8 = 0x15;
const JUMP_NE: u8 = 0x55;
const JUMP_NE_REG: u8 = 0x5d;
const EXIT: u8 = 0x95;

// R1 holds the context at first and is scratch later.
const R_RESULT: u8 = 0;
const R_SCRATCH: u8 = 1;
const R_TYPE: u8 = 2;
const R_ACCESS: u8 = 3;
const R_MAJOR: u8 = 4;
const R_MINOR: u8 = 5;

const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn {
        code,
        regs: src << 4 | dst,
        off,
        imm,
    }
}

/// The program for `rules`, which must be valid (`devices::validate`).
pub(super) fn generate(rules: &[DeviceRule]) -> Vec<Insn> {
    let mut program = vec![
        insn(LOAD_WORD, R_TYPE, R_SCRATCH, ACCESS_TYPE, 0),
        insn(MOVE_REG, R_ACCESS, R_TYPE, 0, 0),
        insn(AND, R_TYPE, 0, 0, 0xffff),
        insn(SHIFT_RIGHT, R_ACCESS, 0, 0, 16),
        insn(LOAD_WORD, R_MAJOR, R_SCRATCH, MAJOR, 0),
        insn(LOAD_WORD, R_MINOR, R_SCRATCH, MINOR, 0),
    ];
    let merged = merge(rules);
    for rule in merged.iter().rev() {
        append(&mut program, rule);
        if rule.kind == 'a' {
            // It matches everything: what comes before it cannot matter, and the verifier refuses dead code.
            return program;
        }
    }
    program.extend([insn(MOVE, R_RESULT, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
    program
}

/// Neighbouring rules for the same device become one, so that `r` and `w` given apart also allow opening for both.
fn merge(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    let mut merged: Vec<DeviceRule> = Vec::with_capacity(rules.len());
    // Where the current run of rules with the same verdict starts: within it the order does not matter.
    let mut run = 0;
    for rule in rules {
        if merged.last().is_some_and(|last| last.allow != rule.allow) {
            run = merged.len();
        }
        let same = merged[run..]
            .iter_mut()
            .find(|m| (m.kind, m.major, m.minor) == (rule.kind, rule.major, rule.minor));
        match same {
            Some(same) => same.access.push_str(&rule.access),
            None => merged.push(rule.clone()),
        }
    }
    merged
}

/// Ends the program with the rule's verdict if the rule matches, else falls through.
fn append(program: &mut Vec<Insn>, rule: &DeviceRule) {
    let verdict = [
        insn(MOVE, R_RESULT, 0, 0, i32::from(rule.allow)),
        insn(EXIT, 0, 0, 0, 0),
    ];
    // Jumps in here go behind the verdict; their distance is known at the end.
    let start = program.len();
    if rule.kind != 'a' {
        let device_type = if rule.kind == 'b' { TYPE_BLOCK } else { TYPE_CHAR };
        program.push(insn(JUMP_NE, R_TYPE, 0, 0, device_type));
        let mask = access_mask(&rule.access);
        if mask != ACCESS_ALL {
            program.push(insn(MOVE_REG, R_SCRATCH, R_ACCESS, 0, 0));
            program.push(insn(AND, R_SCRATCH, 0, 0, mask));
            program.push(if rule.allow {
                insn(JUMP_NE_REG, R_SCRATCH, R_ACCESS, 0, 0)
            } else {
                insn(JUMP_EQ, R_SCRATCH, 0, 0, 0)
            });
        }
        for (register, number) in [(R_MAJOR, rule.major), (R_MINOR, rule.minor)] {
            // Validated to be far below i32::MAX.
            if let Some(number) = number.and_then(|number| i32::try_from(number).ok()) {
                program.push(insn(JUMP_NE, register, 0, 0, number));
            }
        }
    }
    program.extend(verdict);
    for (behind, step) in (0..).zip(program[start..].iter_mut().rev()) {
        if matches!(step.code, JUMP_EQ | JUMP_NE | JUMP_NE_REG) {
            step.off = behind;
        }
    }
}

fn access_mask(access: &str) -> i32 {
    access.chars().fold(0, |mask, c| {
        mask | match c {
            'r' => ACCESS_READ,
            'w' => ACCESS_WRITE,
            _ => ACCESS_MKNOD,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::docker_default_devices;
    use super::*;

    /// Runs the program as the kernel would.
    fn run(program: &[Insn], device_type: i32, access: i32, major: i32, minor: i32) -> i64 {
        let context = [i64::from(access << 16 | device_type), major.into(), minor.into()];
        let mut r = [0i64; 11];
        let mut at = 0usize;
        loop {
            let i = program[at];
            at += 1;
            let (dst, src, imm) = ((i.regs & 15) as usize, (i.regs >> 4) as usize, i64::from(i.imm));
            let holds = match i.code {
                LOAD_WORD => {
                    r[dst] = context[(i.off / 4) as usize];
                    false
                }
                AND => {
                    r[dst] &= imm;
                    false
                }
                SHIFT_RIGHT => {
                    r[dst] >>= imm;
                    false
                }
                MOVE => {
                    r[dst] = imm;
                    false
                }
                MOVE_REG => {
                    r[dst] = r[src];
                    false
                }
                JUMP_EQ => r[dst] == imm,
                JUMP_NE => r[dst] != imm,
                JUMP_NE_REG => r[dst] != r[src],
                EXIT => return r[0],
                other => panic!("operation {other:#x}"),
            };
            if holds {
                at += usize::try_from(i.off).unwrap();
            }
        }
    }

    fn rule(allow: bool, kind: char, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
        DeviceRule {
            allow,
            kind,
            major,
            minor,
            access: access.into(),
        }
    }

    fn check(rules: &[DeviceRule], kind: char, access: &str, major: i32, minor: i32, expected: bool) {
        let device_type = if kind == 'b' { TYPE_BLOCK } else { TYPE_CHAR };
        let got = run(&generate(rules), device_type, access_mask(access), major, minor);
        assert_eq!(
            got,
            i64::from(expected),
            "{rules:?}: {kind} {major}:{minor} {access}"
        );
    }

    #[test]
    fn defaults_allow_what_docker_allows() {
        let rules = docker_default_devices();
        check(&rules, 'c', "rw", 1, 3, true);
        check(&rules, 'c', "w", 136, 7, true);
        check(&rules, 'c', "m", 10, 229, true);
        check(&rules, 'b', "m", 8, 0, true);
        check(&rules, 'c', "rw", 10, 229, false);
        check(&rules, 'c', "rm", 10, 229, false);
        check(&rules, 'b', "r", 8, 0, false);
        check(&rules, 'b', "r", 1, 3, false);
        check(&[], 'c', "r", 1, 3, false);
    }

    #[test]
    fn later_rules_override_earlier_ones() {
        let all = rule(true, 'a', None, None, "rwm");
        let none = rule(false, 'a', None, None, "rwm");
        let fuse = rule(true, 'c', Some(10), Some(229), "rwm");
        let no_write = rule(false, 'c', Some(10), None, "w");
        check(std::slice::from_ref(&all), 'b', "rwm", 8, 0, true);
        check(&[fuse.clone(), none.clone()], 'c', "r", 10, 229, false);
        check(&[none, fuse.clone()], 'c', "r", 10, 229, true);
        check(&[all, no_write.clone()], 'c', "rw", 10, 1, false);
        check(&[fuse.clone(), no_write.clone()], 'c', "r", 10, 229, true);
        check(&[fuse.clone(), no_write.clone()], 'c', "rw", 10, 229, false);
        check(&[no_write, fuse], 'c', "rw", 10, 229, true);
    }

    #[test]
    fn access_given_apart_adds_up() {
        let rules = [
            rule(true, 'c', Some(4), None, "r"),
            rule(true, 'b', None, None, "m"),
            rule(true, 'c', Some(4), None, "w"),
        ];
        check(&rules, 'c', "rw", 4, 1, true);
        check(&rules, 'c', "rwm", 4, 1, false);
    }

    #[test]
    fn one_rule_is_this_program() {
        let program = generate(&[rule(true, 'c', Some(1), Some(3), "rw")]);
        let text: Vec<String> = program
            .iter()
            .map(|i| format!("{:02x} {:02x} {} {}", i.code, i.regs, i.off, i.imm))
            .collect();
        assert_eq!(
            text,
            [
                "61 12 0 0",
                "bf 23 0 0",
                "57 02 0 65535",
                "77 03 0 16",
                "61 14 4 0",
                "61 15 8 0",
                "55 02 7 2",
                "bf 31 0 0",
                "57 01 0 6",
                "5d 31 4 0",
                "55 04 3 1",
                "55 05 2 3",
                "b7 00 0 1",
                "95 00 0 0",
                "b7 00 0 0",
                "95 00 0 0",
            ]
        );
    }
}
