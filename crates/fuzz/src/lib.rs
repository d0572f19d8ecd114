//! Runs decoders on hostile input: a corpus that is checked in, and mutations of it.
//!
//! A [`Target`] is in the tests of the decoder's own crate, so that it reaches private items. It is an
//! ordinary test: the same inputs on every run, on the stable compiler. For a long search, run the test
//! with other ones: `FUZZ_SEED=7 FUZZ_RUNS=5000000 cargo test -p engine hostile`. Input that makes a decoder panic, or take more memory
//! than its length justifies, is written into the corpus, and is committed with the fix. A stack overflow ends the process before
//! that: with `FUZZ_TRACE=FILE` each input is written to that file before it is tried.

mod mutate;

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use self::mutate::mutate;

/// Mutations that a test tries unless `FUZZ_RUNS` says otherwise: about a second of them, of a small decoder.
const RUNS: u32 = 20_000;
/// What any input may cost, in bytes.
const HEAP_BYTES: u64 = 64 * 1024;
/// What each byte of input may cost on top: an empty text of one byte is 24 bytes in memory, in a list that doubles.
const HEAP_BYTES_PER_BYTE: u64 = 128;

/// A decoder under trial.
#[derive(Clone, Debug)]
pub struct Target {
    name: &'static str,
    folder: PathBuf,
    seeds: Vec<Vec<u8>>,
    tokens: &'static [&'static str],
    runs: u32,
    bytes_max: usize,
    heap_bytes: u64,
}

/// What an input did that it must not do.
struct Fault {
    input: Vec<u8>,
    what: String,
}

impl Target {
    /// A decoder of this name; its corpus is the folder of that name in `corpus/` of the crate whose manifest is in
    /// `manifest` (`env!("CARGO_MANIFEST_DIR")`).
    pub fn new(manifest: &str, name: &'static str) -> Self {
        Self {
            name,
            folder: Path::new(manifest).join("corpus").join(name),
            seeds: Vec::new(),
            tokens: &[],
            runs: RUNS,
            bytes_max: 4 * 1024,
            heap_bytes: HEAP_BYTES,
        }
    }

    /// Adds an input that the code itself makes, so that it stays in step with it.
    #[must_use]
    pub fn seed(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.seeds.push(bytes.into());
        self
    }

    /// Words of the format, which chance would hardly ever write.
    #[must_use]
    pub fn tokens(self, tokens: &'static [&'static str]) -> Self {
        Self { tokens, ..self }
    }

    /// Number of mutations, for a decoder that is slow.
    #[must_use]
    pub fn runs(self, runs: u32) -> Self {
        Self { runs, ..self }
    }

    /// Length of the longest mutation, in bytes.
    #[must_use]
    pub fn bytes_max(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// Memory that any input may take, in bytes; each byte of it may take 128 more.
    #[must_use]
    pub fn heap_bytes(self, heap_bytes: u64) -> Self {
        Self { heap_bytes, ..self }
    }

    /// Tries the corpus, then mutations of it.
    ///
    /// # Panics
    ///
    /// If an input makes `decode` panic or take too much memory; the message says where the input was written.
    pub fn check(&self, mut decode: impl FnMut(&[u8])) {
        let corpus = self.corpus();
        assert!(
            !corpus.is_empty(),
            "{} has no corpus in {}",
            self.name,
            self.folder.display()
        );
        for input in &corpus {
            self.try_one(input, &mut decode);
        }
        let mut random = SmallRng::seed_from_u64(number_of("FUZZ_SEED").unwrap_or(1));
        let runs = number_of("FUZZ_RUNS").unwrap_or_else(|| u64::from(self.runs));
        for _ in 0..runs {
            let input = mutate(&mut random, &corpus, self.tokens, self.bytes_max);
            self.try_one(&input, &mut decode);
        }
    }

    /// The inputs that are there, always in the same order.
    fn corpus(&self) -> Vec<Vec<u8>> {
        let mut files: Vec<PathBuf> = match fs::read_dir(&self.folder) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => Vec::new(),
        };
        files.sort();
        let mut corpus = self.seeds.clone();
        for file in files {
            let bytes = fs::read(&file);
            corpus.push(bytes.unwrap_or_else(|error| panic!("read {}: {error}", file.display())));
        }
        corpus
    }

    fn try_one(&self, input: &[u8], decode: &mut impl FnMut(&[u8])) {
        if let Some(trace) = std::env::var_os("FUZZ_TRACE") {
            fs::write(trace, input).expect("FUZZ_TRACE names a file that can be written");
        }
        if let Err(fault) = self.run(input, decode) {
            let file = self.keep(&fault.input);
            panic!(
                "{}: {}; the input of {} bytes is in {file}",
                self.name,
                fault.what,
                fault.input.len()
            );
        }
    }

    fn run(&self, input: &[u8], decode: &mut impl FnMut(&[u8])) -> Result<(), Fault> {
        let fault = |what| Fault {
            input: input.to_vec(),
            what,
        };
        let mut outcome = Ok(());
        let taken = allocation_counter::measure(|| {
            outcome = catch_unwind(AssertUnwindSafe(|| decode(input)));
        });
        if let Err(panic) = outcome {
            return Err(fault(format!("panicked: {}", message_of(panic.as_ref()))));
        }
        let allowed = self.heap_bytes + HEAP_BYTES_PER_BYTE * input.len() as u64;
        if taken.bytes_max > allowed {
            return Err(fault(format!(
                "took {} bytes of memory, of {allowed} allowed",
                taken.bytes_max
            )));
        }
        Ok(())
    }

    /// Writes an input into the corpus; says where it is.
    fn keep(&self, input: &[u8]) -> String {
        let file = self.folder.join(format!("found-{:016x}", digest(input)));
        let written = fs::create_dir_all(&self.folder).and_then(|()| fs::write(&file, input));
        match written {
            Ok(()) => file.display().to_string(),
            Err(error) => format!("no file ({error}); it is {input:02x?}"),
        }
    }
}

/// What a panic said.
fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without words").to_owned()
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// FNV-1a, to name a file after its content.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target with its corpus in a folder that goes away.
    fn target(folder: &Path) -> Target {
        let target = Target::new(&folder.display().to_string(), "sample");
        target.seed(*b"abc").tokens(&["needle"]).runs(2_000)
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("duetime-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn an_input_that_panics_is_kept() {
        let folder = folder("panics");
        let target = target(&folder);
        let decode = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains("needle"), "found it");
        };
        let panic = catch_unwind(|| target.check(decode)).unwrap_err();
        assert!(
            message_of(panic.as_ref()).starts_with("sample: panicked: found it; the input of ")
        );
        let corpus = target.corpus();
        assert_eq!(corpus.len(), 2);
        assert!(String::from_utf8_lossy(&corpus[1]).contains("needle"));
        // It fails at once the next time, and passes once it is mended.
        assert!(catch_unwind(|| target.clone().runs(0).check(decode)).is_err());
        target.check(|_| ());
        let _ = fs::remove_dir_all(&folder);
    }

    #[test]
    fn an_input_that_takes_memory_for_nothing_is_told() {
        let folder = folder("memory");
        let target = target(&folder);
        let decode = |bytes: &[u8]| {
            let claimed = usize::from(bytes.first().copied().unwrap_or(0)) << 16;
            drop(Vec::<u8>::with_capacity(claimed));
        };
        let panic = catch_unwind(|| target.check(decode)).unwrap_err();
        assert!(message_of(panic.as_ref()).contains("bytes of memory, of "));
        let _ = fs::remove_dir_all(&folder);
    }

    #[test]
    fn the_same_inputs_are_tried_on_every_run() {
        let target = target(Path::new("/nonexistent"));
        let seen = || {
            let mut seen = 0_u64;
            target.check(|bytes| seen = seen.wrapping_mul(31) ^ digest(bytes));
            seen
        };
        assert_eq!(seen(), seen());
    }
}
