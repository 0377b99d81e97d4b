//! The topics: created where they are missing and ours, and looked at before anything rests on them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::Consumer as _,
    types::RDKafkaErrorCode,
};
use tokio::time::sleep;

use super::{
    client::{Consuming, StageContext},
    fault::{KafkaFault, plain},
    settings::KafkaSettings,
    status::KafkaStatus,
};

const METADATA: Duration = Duration::from_secs(10);
const ADMIN: Duration = Duration::from_secs(5);
/// A topic that was created is asked for this often, a tenth of a second apart, until the brokers know it.
const LOOKS_MAX: u32 = 300;
/// A closed segment a day, and nothing uncompacted for longer than a day: so long an erased address may lie there.
const STATE_SEGMENT_MS: &str = "86400000";
const DAY_MS: u64 = 86_400_000;

/// Creates what is missing and ours, and refuses what would break a promise.
///
/// # Errors
/// A topic that is not as it must be, with the remedy; or brokers that do not answer.
pub async fn prepare(settings: &Arc<KafkaSettings>, status: &KafkaStatus) -> Result<(), KafkaFault> {
    let partitions = Partitions { settings: Arc::clone(settings), status: status.clone() };
    if partitions.of(&settings.source_topic).await?.is_none() {
        return Err(refused(&settings.source_topic, "does not exist: create it, or correct `source.topic`"));
    }
    let admin: AdminClient<DefaultClientContext> =
        settings.administrator().create().map_err(|error| KafkaFault::client("topics", &error))?;
    let shards = i32::try_from(settings.shards).unwrap_or(i32::MAX);
    let replicas = TopicReplication::Fixed(i32::from(settings.replication_factor));
    let state = NewTopic::new(&settings.state_topic, shards, replicas)
        .set("cleanup.policy", "compact")
        .set("segment.ms", STATE_SEGMENT_MS)
        .set("max.compaction.lag.ms", STATE_SEGMENT_MS);
    let found = exists(&admin, &partitions, state).await?;
    if found != settings.shards {
        return Err(refused(
            &settings.state_topic,
            &format!(
                "has {found} partitions, and `state.shards` says {}: correct `state.shards`; shards cannot be changed once there is state, \
                 so to have more start anew with another `kafka.group`",
                settings.shards
            ),
        ));
    }
    let retention = (u64::from(settings.dead_letter_retention_days) * DAY_MS).to_string();
    let replicas = TopicReplication::Fixed(i32::from(settings.replication_factor));
    let letters =
        NewTopic::new(&settings.dead_letter_topic, 1, replicas).set("cleanup.policy", "delete").set("retention.ms", &retention);
    exists(&admin, &partitions, letters).await?;
    check_settings(&admin, settings, status).await
}

/// Looks topics up without making them: a producer's look would.
struct Partitions {
    settings: Arc<KafkaSettings>,
    status: KafkaStatus,
}

impl Partitions {
    /// How many partitions a topic has; `None` when there is no such topic.
    async fn of(&self, topic: &str) -> Result<Option<u32>, KafkaFault> {
        let (settings, status, topic) = (Arc::clone(&self.settings), self.status.clone(), topic.to_owned());
        let look = tokio::task::spawn_blocking(move || {
            let consumer: Consuming<StageContext> = Consuming::new(&settings.inspector(), "topics", &status)?;
            partition_count(&consumer, &topic, METADATA)
        });
        let found = look.await.map_err(|error| KafkaFault::Failed { doing: "looking for a topic", detail: error.to_string() })?;
        tell(&self.status, &found);
        found
    }
}

/// Says whether the brokers answer: the client that looks is gone with each look, so its own errors are too.
fn tell(status: &KafkaStatus, found: &Result<Option<u32>, KafkaFault>) {
    const WHO: &str = "the look at the topics";
    if let Err(KafkaFault::Failed { detail, .. }) = found {
        status.down(WHO, detail.clone());
    } else {
        status.up(WHO);
    }
}

/// How many partitions a topic has; `None` when there is no such topic.
pub(super) fn partition_count(
    consumer: &Consuming<StageContext>,
    topic: &str,
    limit: Duration,
) -> Result<Option<u32>, KafkaFault> {
    let metadata =
        consumer.fetch_metadata(Some(topic), limit).map_err(|error| KafkaFault::failed("looking for a topic", &error))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => {}
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            return Err(refused(topic, "may not be described by this user: grant DESCRIBE"));
        }
        Some(error) => return Err(KafkaFault::Failed { doing: "looking for a topic", detail: format!("`{topic}`: {error}") }),
    }
    let count = u32::try_from(found.partitions().len()).unwrap_or(u32::MAX);
    Ok((count > 0).then_some(count))
}

/// The partitions of a topic of ours, which is made where it is missing.
async fn exists(
    admin: &AdminClient<DefaultClientContext>,
    partitions: &Partitions,
    topic: NewTopic<'_>,
) -> Result<u32, KafkaFault> {
    let name = topic.name;
    if let Some(count) = partitions.of(name).await? {
        return Ok(count);
    }
    let settings: Vec<String> = topic.config.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let by_hand = |why: &str| {
        let with = settings.join(", ");
        refused(name, &format!("does not exist and cannot be created ({why}): grant CREATE, or create it by hand with {with}"))
    };
    let options = AdminOptions::new().request_timeout(Some(ADMIN)).operation_timeout(Some(ADMIN));
    let results = admin.create_topics([&topic], &options).await.map_err(|error| by_hand(&plain(&error)))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, error)) => return Err(by_hand(&error.to_string())),
        }
    }
    tracing::info!(topic = name, "created the topic");
    for _ in 0..LOOKS_MAX {
        if let Some(count) = partitions.of(name).await? {
            return Ok(count);
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(KafkaFault::Failed {
        doing: "creating a topic",
        detail: format!("the brokers do not know `{name}` after it was created"),
    })
}

async fn check_settings(
    admin: &AdminClient<DefaultClientContext>,
    settings: &KafkaSettings,
    status: &KafkaStatus,
) -> Result<(), KafkaFault> {
    let topics = [settings.source_topic.as_str(), &settings.state_topic, &settings.dead_letter_topic];
    let resources = topics.map(ResourceSpecifier::Topic);
    let options = AdminOptions::new().request_timeout(Some(ADMIN));
    let mut known: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    match admin.describe_configs(&resources, &options).await {
        Ok(results) => {
            for resource in results.into_iter().flatten() {
                if let OwnedResourceSpecifier::Topic(name) = resource.specifier {
                    let entries = resource.entries.into_iter();
                    known.insert(name, entries.filter_map(|entry| Some((entry.name, entry.value?))).collect());
                }
            }
        }
        Err(error) => tracing::info!("the brokers do not tell the topics' settings: {}", plain(&error)),
    }
    for topic in topics {
        let Some(found) = known.get(topic) else {
            status.remark(format!(
                "the settings of topic `{topic}` are not checked: the brokers do not tell them; grant DESCRIBE_CONFIGS to this user"
            ));
            continue;
        };
        let role = if topic == settings.source_topic {
            Role::Source
        } else if topic == settings.state_topic {
            Role::State
        } else {
            Role::DeadLetters
        };
        let verdict = judge(role, found);
        if let Some(problem) = verdict.refused {
            return Err(refused(topic, problem));
        }
        verdict.remarks.into_iter().for_each(|remark| status.remark(format!("topic `{topic}` {remark}")));
    }
    Ok(())
}

fn refused(topic: &str, problem: &str) -> KafkaFault {
    KafkaFault::Topic { topic: topic.to_owned(), problem: problem.to_owned() }
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Source,
    State,
    DeadLetters,
}

#[derive(Debug, PartialEq, Eq, Default)]
struct Verdict {
    refused: Option<&'static str>,
    remarks: Vec<&'static str>,
}

/// What a topic's settings mean for its role.
fn judge(role: Role, settings: &BTreeMap<String, String>) -> Verdict {
    let policy = settings.get("cleanup.policy").map_or("", String::as_str);
    let has = |word: &str| policy.split(',').any(|part| part.trim() == word);
    let endless = |name: &str| {
        let value = settings.get(name).and_then(|text| text.parse::<i64>().ok());
        value.is_some_and(|ms| ms < 0 || ms == i64::MAX)
    };
    let mut verdict = Verdict::default();
    match role {
        Role::Source => {
            if has("compact") {
                verdict.refused = Some(
                    "has `compact` in its cleanup.policy: its key is the profile, so compaction deletes the events of other segments; \
                     set cleanup.policy=delete, and have the producer send the segments again",
                );
            }
        }
        Role::State => {
            if has("delete") || !has("compact") {
                verdict.refused =
                    Some("must be compacted, and nothing but compacted, or the state is lost: set cleanup.policy=compact");
            } else if endless("max.compaction.lag.ms") {
                verdict.refused = Some(
                    "has no finite max.compaction.lag.ms, so that erased addresses may stay in it: set max.compaction.lag.ms=86400000",
                );
            } else if endless("segment.ms") {
                verdict.refused =
                    Some("has no finite segment.ms, so that erased addresses may stay in it: set segment.ms=86400000");
            }
        }
        Role::DeadLetters => {
            if has("compact") {
                verdict.remarks.push(
                    "has `compact` in its cleanup.policy, which deletes letters of the same profile: set cleanup.policy=delete",
                );
            }
            if endless("retention.ms") {
                verdict.remarks.push("keeps records for ever, erased addresses among them: set a finite retention.ms");
            }
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_that_do_not_answer_a_look_are_down_until_one_answers() {
        let status = KafkaStatus::default();
        tell(&status, &Err(KafkaFault::Failed { doing: "looking for a topic", detail: "no broker answers".to_owned() }));
        assert!(status.is_down());
        // A topic that is refused is an answer too.
        tell(&status, &Err(refused("events", "does not exist")));
        assert!(!status.is_down());
        tell(&status, &Err(KafkaFault::Failed { doing: "looking for a topic", detail: "no broker answers".to_owned() }));
        tell(&status, &Ok(Some(4)));
        assert!(!status.is_down());
    }

    #[test]
    fn settings_that_break_a_promise_are_refused() {
        let endless = i64::MAX.to_string();
        for (role, policy, lag, refused, remarks) in [
            (Role::Source, "delete", "1", false, 0),
            (Role::Source, "compact", "1", true, 0),
            (Role::Source, "delete, compact", "1", true, 0),
            (Role::State, "compact", "1", false, 0),
            (Role::State, "compact", endless.as_str(), true, 0),
            (Role::State, "compact,delete", "1", true, 0),
            (Role::State, "delete", "1", true, 0),
            (Role::DeadLetters, "delete", "1", false, 0),
            (Role::DeadLetters, "compact", "1", false, 1),
        ] {
            let settings = [("cleanup.policy", policy), ("max.compaction.lag.ms", lag)];
            let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let verdict = judge(role, &settings);
            assert_eq!((verdict.refused.is_some(), verdict.remarks.len()), (refused, remarks), "{role:?} {policy} {lag}");
        }
    }
}
