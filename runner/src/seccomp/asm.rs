//! A backwards assembler for classic BPF.
//!
//! BPF only jumps forward, so a program is written from its end: every target exists before the jump to it does, and its
//! distance is known. Conditional jumps reach 255 instructions; farther ones get a trampoline.

use std::collections::BTreeMap;

use super::program::{AND, Insn, JA, JEQ, JGE, JGT, LD_ABS, RET};

/// An instruction already written: its index from the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Insn>,
    /// The nearest return of each value.
    returns: BTreeMap<u32, Label>,
}

impl Assembler {
    /// The program, if `entry` is what was written last.
    pub(super) fn finish(mut self, entry: Label) -> Vec<Insn> {
        self.make_next(entry);
        self.reversed.reverse();
        self.reversed
    }

    /// Ends the program with `value`.
    pub(super) fn ret(&mut self, value: u32) -> Label {
        match self.returns.get(&value) {
            Some(label) => *label,
            None => self.new_ret(value),
        }
    }

    /// Loads the word at `offset` of `seccomp_data`, then goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.make_next(next);
        self.push(LD_ABS, 0, 0, offset)
    }

    /// Masks the accumulator, then goes on at `next`.
    pub(super) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.make_next(next);
        self.push(AND, 0, 0, mask)
    }

    /// Compares the accumulator with `value`, unsigned.
    pub(super) fn branch(&mut self, compare: Compare, value: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let (mut yes, mut no) = (yes, no);
        // Reaching one side may push the other out of reach, but a target just written is near, so this ends.
        let (jt, jf) = loop {
            match (u8::try_from(self.distance(yes)), u8::try_from(self.distance(no))) {
                (Ok(jt), Ok(jf)) => break (jt, jf),
                (Err(_), _) => yes = self.bring_near(yes),
                (Ok(_), Err(_)) => no = self.bring_near(no),
            }
        };
        let code = match compare {
            Compare::Equal => JEQ,
            Compare::Greater => JGT,
            Compare::GreaterOrEqual => JGE,
        };
        self.push(code, jt, jf, value)
    }

    /// Instructions between the next one written and `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - target.0 - 1
    }

    fn make_next(&mut self, target: Label) {
        if self.distance(target) != 0 {
            self.bring_near(target);
        }
    }

    fn bring_near(&mut self, target: Label) -> Label {
        let insn = self.reversed[target.0];
        if insn.code == RET {
            return self.new_ret(insn.k);
        }
        let distance = u32::try_from(self.distance(target)).unwrap_or(u32::MAX);
        self.push(JA, 0, 0, distance)
    }

    fn new_ret(&mut self, value: u32) -> Label {
        let label = self.push(RET, 0, 0, value);
        self.returns.insert(value, label);
        label
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Insn { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }
}
