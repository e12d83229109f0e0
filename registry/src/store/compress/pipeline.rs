//! Reads, compresses and writes at the same time.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use super::block::{Block, Encoder, Frame};
use super::coding::{Coding, Format};

/// Bound of what compressing one layer holds in memory.
pub(super) const MEMORY: usize = 64 << 20;
/// Blocks beyond one per thread: one is being filled, one written.
const SPARE: usize = 2;

/// Threads worth having: one for each processor, within [`MEMORY`].
pub(super) fn threads(coding: Coding) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let block = 2 * coding.format.block_size() + coding.format.look_back();
    let room = MEMORY - SPARE * block;
    processors.min(room / (block + encoder_memory(coding))).max(1)
}

/// Upper bound of an encoder's own memory; a test compares it with what encoders say.
pub(super) fn encoder_memory(coding: Coding) -> usize {
    match (coding.format, coding.level) {
        (Format::Gzip, _) => 512 << 10,
        (Format::Zstd, 0..=4) => 4 << 20,
        (Format::Zstd, 5..=12) => 28 << 20,
        (Format::Zstd, _) => 44 << 20,
    }
}

/// Compresses `input` on `threads` threads and hands the result to `output` piece by piece, in order, on the caller's.
/// What comes out depends on `coding` and the bytes alone.
pub(super) fn compress(
    input: &mut dyn Read,
    coding: Coding,
    threads: usize,
    output: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let threads = threads.max(1);
    let (jobs, queue) = channel::<Block>();
    let queue = Mutex::new(queue);
    let (finished, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (queue, finished) = (&queue, finished.clone());
            scope.spawn(move || work(coding, queue, &finished));
        }
        drop(finished);
        let line = Line {
            input: Input {
                source: input,
                tail: Vec::new(),
                number: 0,
                ended: false,
            },
            free: (0..threads + SPARE).map(|_| Block::default()).collect(),
            jobs,
            results,
        };
        line.run(coding, output)
    })
}

fn work(coding: Coding, queue: &Mutex<Receiver<Block>>, finished: &Sender<io::Result<Block>>) {
    let mut encoder = Encoder::new(coding);
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut block) = next else { return };
        // A thread that unwinds would leave the caller waiting for its block.
        let result = catch_unwind(AssertUnwindSafe(|| match &mut encoder {
            Ok(encoder) => encoder.encode(&mut block),
            Err(error) => Err(io::Error::other(error.to_string())),
        }));
        let result =
            result.unwrap_or_else(|_| Err(io::Error::other("a compressing thread ended abnormally")));
        if finished.send(result.map(|()| block)).is_err() {
            return;
        }
    }
}

/// The caller's side: feeds blocks to the threads and puts what comes back into order.
struct Line<'a> {
    input: Input<'a>,
    free: Vec<Block>,
    jobs: Sender<Block>,
    results: Receiver<io::Result<Block>>,
}

impl Line<'_> {
    fn run(mut self, coding: Coding, output: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let gone = || io::Error::other("all compressing threads ended");
        let mut frame = Frame::new(coding);
        output(frame.head())?;
        let mut under_way = 0;
        let mut early: BTreeMap<u64, Block> = BTreeMap::new();
        let mut expected = 0;
        loop {
            while let Some(mut block) = self.free.pop() {
                if !self.input.fill(&mut block, coding.format)? {
                    break;
                }
                under_way += 1;
                self.jobs.send(block).map_err(|_| gone())?;
            }
            if under_way == 0 {
                break;
            }
            let block = self.results.recv().map_err(|_| gone())??;
            under_way -= 1;
            early.insert(block.number, block);
            while let Some(block) = early.remove(&expected) {
                frame.add(&block);
                output(&block.out)?;
                expected += 1;
                self.free.push(block);
            }
        }
        output(&frame.tail())
    }
}

struct Input<'a> {
    source: &'a mut dyn Read,
    /// The last bytes of the block before.
    tail: Vec<u8>,
    number: u64,
    ended: bool,
}

impl Input<'_> {
    /// Fills a block completely unless the input ends in it; false if nothing is left.
    fn fill(&mut self, block: &mut Block, format: Format) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        block.number = self.number;
        block.before.clone_from(&self.tail);
        block.data.clear();
        let size = format.block_size();
        self.source.take(size as u64).read_to_end(&mut block.data)?;
        self.ended = block.data.len() < size;
        // Nothing at all is one empty block, so that the result is a stream of its format.
        if block.data.is_empty() && self.number > 0 {
            return Ok(false);
        }
        self.number += 1;
        self.tail.clear();
        let from = block.data.len().saturating_sub(format.look_back());
        self.tail.extend_from_slice(&block.data[from..]);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::super::block::{encode_zstd, zstd_context};
    use super::*;

    /// Text that compresses, numbers that almost repeat, noise that does not; never the same at two places.
    fn sample(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut bytes = Vec::with_capacity(length + 32);
        while bytes.len() < length {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            match state >> 60 {
                0..5 => bytes.extend_from_slice(b"the same words again and again, "),
                5..14 => bytes.extend_from_slice(format!("{}\n", bytes.len()).as_bytes()),
                _ => bytes.extend_from_slice(&state.to_le_bytes()),
            }
        }
        bytes.truncate(length);
        bytes
    }

    /// Gives at most `step` bytes for each read.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(self.1).min(self.0.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn run(data: &[u8], step: usize, coding: Coding, threads: usize) -> Vec<u8> {
        let mut out = Vec::new();
        compress(&mut Slow(data, step), coding, threads, &mut |bytes| {
            out.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        out
    }

    fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding.format {
            // One member only: what follows it would be missed.
            Format::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
            Format::Zstd => drop(
                zstd::stream::read::Decoder::new(bytes)
                    .unwrap()
                    .read_to_end(&mut out)
                    .unwrap(),
            ),
        }
        out
    }

    fn codings() -> impl Strategy<Value = Coding> {
        prop_oneof![
            (0..=9u8).prop_map(|level| Coding::gzip(Some(level)).unwrap()),
            (0..=9u8).prop_map(|level| Coding::zstd(Some(level)).unwrap()),
            (13..=16u8).prop_map(|level| Coding::zstd(Some(level)).unwrap()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

        #[test]
        fn threads_and_reads_do_not_show(
            seed in any::<u64>(), length in 0usize..4_500_000, step in 1usize..3_000_000,
            threads in 1usize..9, coding in codings(),
        ) {
            let data = sample(seed, length);
            let reference = run(&data, usize::MAX, coding, 1);
            prop_assert!(run(&data, step.max(997), coding, threads) == reference);
            prop_assert!(decode(coding, &reference) == data);
        }
    }

    /// Edges of blocks, and the programs that people have.
    #[test]
    fn other_decoders_agree() {
        for coding in [Coding::gzip(None).unwrap(), Coding::zstd(None).unwrap()] {
            let size = coding.format.block_size();
            for length in [0, 1, size - 1, size, size + 1, 3 * size] {
                let data = sample(length as u64, length);
                let packed = run(&data, usize::MAX, coding, 3);
                assert!(decode(coding, &packed) == data, "{coding:?} {length}");
                let program = match coding.format {
                    Format::Gzip => "gzip",
                    Format::Zstd => "zstd",
                };
                assert!(
                    pipe(program, &packed).is_none_or(|found| found == data),
                    "{program} {length}"
                );
            }
        }
    }

    /// None if there is no such program here.
    fn pipe(program: &str, input: &[u8]) -> Option<Vec<u8>> {
        let child = Command::new(program)
            .arg("-dc")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("skipped: no {program}");
            return None;
        };
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input).unwrap());
            child.wait_with_output().unwrap()
        });
        assert!(output.status.success(), "{program}");
        Some(output.stdout)
    }

    /// A change of these bytes changes the digest of every pushed layer: do it knowingly.
    #[test]
    fn format_is_pinned() {
        let data = sample(7, 5_000_000);
        let digest = |coding| crate::digest::Digest::sha256(&run(&data, usize::MAX, coding, 2)).to_string();
        assert_eq!(
            (
                digest(Coding::gzip(None).unwrap()),
                digest(Coding::zstd(None).unwrap())
            ),
            (
                "sha256:06edcdcc97f5b87e2cb806804fc69594e7eaaafb4c72df12c97bba2ff2782802".to_owned(),
                "sha256:572b5a5cf7ebc2cd90e9d50a0fa0635ee16ad11b88301d0d4c5450f1a3d6139c".to_owned(),
            )
        );
    }

    #[test]
    fn memory_is_bounded() {
        for level in 0..=22 {
            let coding = Coding::zstd(Some(level)).unwrap();
            let mut zstd = zstd_context(coding).unwrap();
            let mut block = Block {
                data: sample(3, coding.format.block_size()),
                ..Block::default()
            };
            encode_zstd(&mut zstd, &mut block).unwrap();
            let (said, allowed) = (zstd.context_mut().sizeof(), encoder_memory(coding));
            assert!(said <= allowed, "level {level}: {said} > {allowed}");
        }
        for coding in [Coding::gzip(Some(9)), Coding::zstd(None), Coding::zstd(Some(22))] {
            let coding = coding.unwrap();
            let block = 2 * coding.format.block_size() + coding.format.look_back();
            let all = threads(coding) * (block + encoder_memory(coding)) + SPARE * block;
            assert!(all <= MEMORY, "{coding:?}: {all}");
        }
    }

    #[test]
    fn failures_end_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let coding = Coding::gzip(None).unwrap();
        let mut input = Slow(&[7; 1 << 20], usize::MAX).chain(Broken);
        let error = compress(&mut input, coding, 2, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "broken");
        let mut count = 0;
        let error = compress(&mut &[7; 4 << 20][..], coding, 2, &mut |_| {
            count += 1;
            if count > 2 {
                Err(io::Error::other("full"))
            } else {
                Ok(())
            }
        });
        assert_eq!(error.unwrap_err().to_string(), "full");
    }
}
