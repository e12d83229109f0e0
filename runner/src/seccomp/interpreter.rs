//! Runs a filter as the kernel would: for tests only.

use super::program::{AND, Insn, JA, JEQ, JGE, JGT, LD_ABS, RET};

/// The filter's answer to a call, `SECCOMP_RET_*` with its data, and the number of instructions it took.
pub(super) fn run(program: &[Insn], audit: u32, nr: u32, args: [u64; 6]) -> (u32, usize) {
    let mut data = [0u32; 16];
    data[0] = nr;
    data[1] = audit;
    for (index, arg) in args.into_iter().enumerate() {
        data[4 + 2 * index] = (arg & 0xffff_ffff) as u32;
        data[5 + 2 * index] = (arg >> 32) as u32;
    }
    let (mut accumulator, mut at, mut steps) = (0, 0, 0);
    loop {
        let insn = program[at];
        at += 1;
        steps += 1;
        let jump = |holds: bool| usize::from(if holds { insn.jt } else { insn.jf });
        match insn.code {
            LD_ABS => accumulator = data[(insn.k / 4) as usize],
            AND => accumulator &= insn.k,
            JA => at += insn.k as usize,
            JEQ => at += jump(accumulator == insn.k),
            JGT => at += jump(accumulator > insn.k),
            JGE => at += jump(accumulator >= insn.k),
            RET => return (insn.k, steps),
            other => panic!("operation {other:#x} at {at}"),
        }
    }
}
