//! Makes the platform's topics at the broker, and makes them again when they are missing.

use crate::error::Result;
use crate::messaging::{Made, Messaging, TopicKind};
use crate::model::outbox::Topic;
use crate::platform::Platform;

/// Makes the topic unless it exists. One that had to be made gets the messages of its timers anew: those published before
/// went with the topic before it.
pub(crate) async fn ensure(
    platform: &Platform,
    messaging: &dyn Messaging,
    topic: Topic,
) -> Result<Made> {
    let made = make(platform, messaging, topic).await?;
    if made == Made::New {
        let name = topic.name(&platform.config().prefix);
        tracing::info!(topic = %name, "a topic of the platform was not at the broker and is made");
        if let Some(kind) = topic.timers() {
            let republished = platform.rebuild_kind(kind).await?;
            if republished > 0 {
                tracing::warn!(topic = %name, republished, "timers of a lost topic are published again");
            }
        }
    }
    Ok(made)
}

/// Makes the topic unless it exists.
async fn make(platform: &Platform, messaging: &dyn Messaging, topic: Topic) -> Result<Made> {
    let kind = match topic {
        Topic::Timers(_) => TopicKind::Delay,
        Topic::Events => TopicKind::Fifo,
    };
    let config = platform.config();
    let name = topic.name(&config.prefix);
    Ok(messaging.ensure_topic(&name, kind, config.queues).await?)
}
