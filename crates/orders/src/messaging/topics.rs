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
        tracing::warn!(topic = %name, "a topic of the platform was missing at the broker and is made again");
        if let Some(kind) = topic.timers() {
            let republished = platform.rebuild_kind(kind).await?;
            tracing::info!(topic = %name, republished, "its timers are published again");
        }
    }
    Ok(made)
}

/// Makes the topic unless it exists.
pub(crate) async fn make(
    platform: &Platform,
    messaging: &dyn Messaging,
    topic: Topic,
) -> Result<Made> {
    let kind = match topic {
        Topic::Timers(_) => TopicKind::Delay,
        Topic::Events => TopicKind::Fifo,
    };
    let config = platform.config();
    let name = topic.name(&config.prefix);
    Ok(messaging.ensure_topic(&name, kind, config.queues).await?)
}
