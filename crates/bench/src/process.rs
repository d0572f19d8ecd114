//! Reads the memory, CPU time and written bytes of a process from the operating system.

use anyhow::Context as _;

/// The resources a process has used so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// CPU time of all threads, in us.
    pub(crate) cpu_us: f64,
    /// Bytes handed to the disk.
    pub(crate) written_bytes: f64,
    /// Resident memory now, in MiB.
    pub(crate) resident_mib: f64,
    /// How often its threads that still run have waited for something, so that another one ran.
    pub(crate) switches: f64,
}

impl Usage {
    /// Of this process.
    pub(crate) fn now() -> anyhow::Result<Self> {
        Self::of(std::process::id())
    }

    /// Of a process of the same user.
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let read = |name: &str| {
            std::fs::read_to_string(format!("/proc/{process}/{name}"))
                .with_context(|| format!("read /proc/{process}/{name}"))
        };
        Ok(Self {
            cpu_us: cpu_us(&read("stat")?)?,
            written_bytes: field(&read("io")?, "write_bytes")?,
            resident_mib: field(&read("status")?, "VmRSS")? / 1_024.0,
            switches: switches(process)?,
        })
    }
}

/// Voluntary switches of all threads.
fn switches(process: u32) -> anyhow::Result<f64> {
    let folder = format!("/proc/{process}/task");
    let threads = std::fs::read_dir(&folder).with_context(|| format!("read {folder}"))?;
    let mut switches = 0.0;
    for thread in threads {
        // A thread may end between the two reads.
        if let Ok(status) = std::fs::read_to_string(thread?.path().join("status")) {
            switches += field(&status, "voluntary_ctxt_switches")?;
        }
    }
    Ok(switches)
}

/// The number after a name in one of the kernel's `name: number` files.
fn field(text: &str, name: &str) -> anyhow::Result<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number
        .with_context(|| format!("no {name}"))?
        .parse()
        .with_context(|| format!("{name} is not a number"))
}

/// User and system time of a `stat` line, which the kernel gives in ticks of 10 ms.
fn cpu_us(stat: &str) -> anyhow::Result<f64> {
    // The command name is in brackets and may hold anything; the fields are counted after it.
    let (_, fields) = stat.rsplit_once(')').context("no command name in stat")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    let tick = |index: usize| -> anyhow::Result<f64> {
        Ok(fields.get(index).context("stat is short")?.parse()?)
    };
    Ok((tick(11)? + tick(12)?) * 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_files_are_read() {
        assert!(
            (field("VmSize:\t 9 kB\nVmRSS:\t    2048 kB\n", "VmRSS").unwrap() - 2048.0).abs() < 0.1
        );
        assert!(field("VmSize: 9 kB", "VmRSS").is_err());
        let stat = "1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20";
        assert!((cpu_us(stat).unwrap() - 2_000_000.0).abs() < 0.1);
        let usage = Usage::now().unwrap();
        assert!(usage.resident_mib > 1.0);
        assert!(usage.switches >= 0.0);
    }
}
