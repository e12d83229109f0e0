//! The compiled filter and its serialised form.

use super::SeccompError;

/// `SECCOMP_FILTER_FLAG_TSYNC`: all threads of the process get the filter.
pub const FLAG_TSYNC: u32 = 1;
/// `SECCOMP_FILTER_FLAG_LOG`: actions other than allow are logged.
pub const FLAG_LOG: u32 = 2;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: speculative store bypass stays possible.
pub const FLAG_SPEC_ALLOW: u32 = 4;

/// Format version 1.
const MAGIC: [u8; 8] = *b"CPRBPF\0\x01";
/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;
const INSTRUCTION_SIZE: usize = 8;
const HEADER_SIZE: usize = 16;

pub(super) const LD_ABS: u16 = 0x20;
pub(super) const JA: u16 = 0x05;
pub(super) const JEQ: u16 = 0x15;
pub(super) const JGT: u16 = 0x25;
pub(super) const JGE: u16 = 0x35;
pub(super) const AND: u16 = 0x54;
pub(super) const RET: u16 = 0x06;

/// One classic BPF instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if a condition holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// A filter for `seccomp(SECCOMP_SET_MODE_FILTER)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// At most 4096 instructions.
    pub instructions: Vec<Insn>,
    /// `SECCOMP_FILTER_FLAG_*` the profile asks for; 0 unless it has `flags`.
    pub flags: u32,
}

impl Program {
    pub(super) fn new(instructions: Vec<Insn>, flags: u32) -> Result<Self, SeccompError> {
        if instructions.len() > MAX_INSTRUCTIONS {
            return Err(SeccompError::ProgramTooLarge(instructions.len()));
        }
        Ok(Self { instructions, flags })
    }

    /// Magic with format version, flags, number of instructions, instructions; all little endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_SIZE + self.instructions.len() * INSTRUCTION_SIZE);
        bytes.extend(MAGIC);
        bytes.extend(self.flags.to_le_bytes());
        // The kernel's limit is far below u32::MAX.
        bytes.extend(
            u32::try_from(self.instructions.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        for insn in &self.instructions {
            bytes.extend(insn.code.to_le_bytes());
            bytes.extend([insn.jt, insn.jf]);
            bytes.extend(insn.k.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Program::to_bytes`] wrote. Every jump is checked to stay inside the program, so that a damaged cache is
    /// noticed here and not in the child.
    ///
    /// # Errors
    /// [`SeccompError::BadProgram`] for anything else, another format version among it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SeccompError> {
        let bad = SeccompError::BadProgram;
        let (header, body) = bytes.split_first_chunk::<HEADER_SIZE>().ok_or(bad("too short"))?;
        if header[..8] != MAGIC {
            return Err(bad("unknown magic or version"));
        }
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (chunks, rest) = body.as_chunks::<INSTRUCTION_SIZE>();
        if !rest.is_empty() || usize::try_from(word(12)).ok() != Some(chunks.len()) {
            return Err(bad("length does not match"));
        }
        let instructions: Vec<Insn> = chunks
            .iter()
            .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| Insn {
                code: u16::from_le_bytes([c0, c1]),
                jt,
                jf,
                k: u32::from_le_bytes([k0, k1, k2, k3]),
            })
            .collect();
        check(&instructions).map_err(bad)?;
        Self::new(instructions, word(8))
    }
}

fn check(instructions: &[Insn]) -> Result<(), &'static str> {
    if instructions.last().is_none_or(|last| last.code != RET) {
        return Err("does not end in a return");
    }
    for (at, insn) in instructions.iter().enumerate() {
        let left = instructions.len() - at - 1;
        let inside = |skip: usize| skip < left;
        let ok = match insn.code {
            RET | AND => true,
            LD_ABS => insn.k % 4 == 0 && insn.k < 64,
            JA => usize::try_from(insn.k).is_ok_and(inside),
            JEQ | JGT | JGE => inside(insn.jt.into()) && inside(insn.jf.into()),
            _ => return Err("unknown operation"),
        };
        if !ok {
            return Err("operand out of range");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSN: fn(u16, u8, u8, u32) -> Insn = |code, jt, jf, k| Insn { code, jt, jf, k };

    #[test]
    fn bytes_round_trip() {
        let instructions = vec![
            INSN(LD_ABS, 0, 0, 4),
            INSN(JEQ, 0, 1, 7),
            INSN(RET, 0, 0, 1),
            INSN(RET, 0, 0, 2),
        ];
        let program = Program {
            instructions,
            flags: FLAG_LOG,
        };
        let bytes = program.to_bytes();
        assert_eq!(bytes.len(), 16 + 4 * 8);
        assert_eq!(Program::from_bytes(&bytes).unwrap(), program);
        for cut in 0..bytes.len() {
            assert!(Program::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut newer = bytes;
        newer[7] = 2;
        assert!(Program::from_bytes(&newer).is_err());
    }

    #[test]
    fn damaged_programs_are_refused() {
        let check = |instructions: &[Insn]| {
            let program = Program {
                instructions: instructions.to_vec(),
                flags: 0,
            };
            assert!(
                Program::from_bytes(&program.to_bytes()).is_err(),
                "{instructions:?}"
            );
        };
        let ret = INSN(RET, 0, 0, 0);
        check(&[]);
        check(&[INSN(LD_ABS, 0, 0, 0)]);
        check(&[INSN(JEQ, 1, 0, 0), ret]);
        check(&[INSN(JA, 0, 0, 1), ret]);
        check(&[INSN(LD_ABS, 0, 0, 64), ret]);
        check(&[INSN(LD_ABS, 0, 0, 2), ret]);
        check(&[INSN(0x16, 0, 0, 0), ret]);
        check(&vec![ret; 4097]);
    }
}
