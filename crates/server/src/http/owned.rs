//! Keeps the topics and consumer groups of the order platform from being deleted, changed, reset or purged, and their
//! messages from being cancelled, moved or received, by mistake.
//!
//! A replay of its dead letters is no mistake: each of them is delivered to its group once more, and none is lost.

use broker::DEAD_LETTER_PREFIX;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::problem::{Problem, ProblemKind};

/// The topics and consumer groups that the order platform in this process depends on.
#[derive(Clone, Debug, Default)]
pub struct OwnedNames {
    /// The topics.
    pub topics: Vec<String>,
    /// The consumer groups.
    pub groups: Vec<String>,
}

/// Whether a topic or consumer group of the order platform is meant.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ForceQuery {
    /// `platform`: also if the order platform uses it.
    #[param(inline)]
    force: Option<Force>,
}

/// What can be forced.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Force {
    /// Also what the order platform uses.
    Platform,
}

impl OwnedNames {
    /// Refuses to go on with a topic of the platform, or with the dead letters of its groups, unless that is meant.
    pub(super) fn check_topic(&self, topic: &str, query: ForceQuery) -> Result<(), Problem> {
        match topic.strip_prefix(DEAD_LETTER_PREFIX) {
            Some(group) => check(&self.groups, "dead letters of", group, query),
            None => check(&self.topics, "topic", topic, query),
        }
    }

    /// Refuses to go on with a consumer group of the platform unless that is meant.
    pub(super) fn check_group(&self, group: &str, query: ForceQuery) -> Result<(), Problem> {
        check(&self.groups, "consumer group", group, query)
    }
}

fn check(owned: &[String], what: &str, name: &str, query: ForceQuery) -> Result<(), Problem> {
    if matches!(query.force, Some(Force::Platform)) || owned.iter().all(|each| each != name) {
        return Ok(());
    }
    let detail =
        format!("the order platform uses {what} {name:?}; add ?force=platform if that is meant");
    Err(Problem::new(ProblemKind::PlatformOwned, detail))
}
