//! Raises how many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the defaults of three listening ports and the stores need together.
const WANTED: u64 = 32_768;

/// Raises the soft limit of open files to the hard one, and warns if that is fewer than a loaded server can need.
///
/// Service managers and shells start a process with a soft limit of 1,024, which is kept low for programs that use
/// select(2); this one does not. The process goes on with what it has if the limit cannot be changed.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let open_max = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            limit.current
        }
    };
    // No limit is `None`.
    if let Some(open_max) = open_max.filter(|open_max| *open_max < WANTED) {
        tracing::warn!(
            open_max,
            "fewer than {WANTED} files may be open: connections beyond them are not accepted (ulimit -n, LimitNOFILE)"
        );
    }
}
