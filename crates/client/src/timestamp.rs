//! Converts instants and durations to and from their protocol forms.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use grpc_api::Timestamp;

/// An instant as the time since the Unix epoch; earlier ones count as the epoch.
pub(crate) fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn timestamp(since_epoch: Duration) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since_epoch.subsec_nanos()).unwrap_or(0),
    }
}

pub(crate) fn duration(span: Duration) -> grpc_api::Duration {
    let Timestamp { seconds, nanos } = timestamp(span);
    grpc_api::Duration { seconds, nanos }
}

/// An instant of the protocol; one before the epoch counts as the epoch.
pub(crate) fn instant(at: &Timestamp) -> SystemTime {
    UNIX_EPOCH
        .checked_add(span_of(at.seconds, at.nanos))
        .unwrap_or(UNIX_EPOCH)
}

/// A duration of the protocol; a negative one counts as zero.
pub(crate) fn span(span: &grpc_api::Duration) -> Duration {
    span_of(span.seconds, span.nanos)
}

fn span_of(seconds: i64, nanos: i32) -> Duration {
    let nanos = u32::try_from(nanos).unwrap_or(0);
    u64::try_from(seconds)
        .ok()
        .and_then(|seconds| {
            Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanos.into()))
        })
        .unwrap_or_default()
}

/// The protocol form of the date of a call: `20261124T115608Z`.
pub(crate) fn date_time(second: u64) -> String {
    i64::try_from(second)
        .ok()
        .and_then(|second| jiff::Timestamp::from_second(second).ok())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_survive_a_round_trip() {
        let at = Duration::new(1_800_000_000, 123_000_000);
        assert_eq!(instant(&timestamp(at)), UNIX_EPOCH + at);
        assert_eq!(span(&duration(at)), at);
        let before = Timestamp {
            seconds: -1,
            nanos: 5,
        };
        assert_eq!(instant(&before), UNIX_EPOCH);
        assert_eq!(since_epoch(UNIX_EPOCH - at), Duration::ZERO);
    }

    #[test]
    fn dates_have_the_form_of_the_protocol() {
        assert_eq!(date_time(1_795_521_368), "20261124T115608Z");
    }
}
