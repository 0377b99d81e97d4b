//! A real Apache Kafka broker: one node, KRaft, free ports, a folder of its own.

use std::{path::PathBuf, process::Command, sync::OnceLock, time::Duration};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::{Headers as _, Message as _},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};

use super::{free_port, process::Shared, resolved, scratch, wait};

const LIMIT: Duration = Duration::from_secs(60);
const CALL: Duration = Duration::from_secs(5);

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    /// `host:port`.
    pub address: String,
    /// The process.
    pub process: Shared,
    folder: PathBuf,
    arguments: Vec<String>,
}

/// A further listener of a broker, for clients that are to come through a proxy: whoever connects to `listens` is told
/// to go on at `advertised`.
#[derive(Debug, Clone, Copy)]
pub struct Detour {
    /// The broker's own port.
    pub listens: u16,
    /// The proxy's.
    pub advertised: u16,
}

/// A record as a reader sees it.
#[derive(Debug)]
pub struct Read {
    /// Empty when there is none.
    pub key: Vec<u8>,
    /// Empty when there is none.
    pub value: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Read {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}

impl Broker {
    /// The broker that the tests of this binary share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Formats a folder and starts a broker on it.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with further listeners.
    pub fn start_with(detours: &[Detour]) -> Self {
        let (folder, client, controller) = (scratch("broker"), free_port(), free_port());
        let properties = folder.join("server.properties");
        let logging = folder.join("log4j2.xml");
        std::fs::write(&properties, server_properties(&folder.join("data").display().to_string(), client, controller, detours))
            .expect("a file");
        std::fs::write(&logging, LOGGING).expect("a file");
        let classes = resolved("LISTKEEPER_TEST_KAFKA").join("libs").join("*");
        let java = [
            "-Xmx512m".to_owned(),
            "-XX:TieredStopAtLevel=1".to_owned(),
            "-XX:+UseSerialGC".to_owned(),
            format!("-Dlog4j2.configurationFile={}", logging.display()),
            "-cp".to_owned(),
            classes.display().to_string(),
        ];
        let format = ["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER, "-c"];
        let formatted = Command::new("java").args(&java).args(format).arg(&properties).output().expect("java starts");
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let mut arguments = java.to_vec();
        arguments.extend(["kafka.Kafka".to_owned(), properties.display().to_string()]);
        Self::serve(folder, format!("127.0.0.1:{client}"), arguments)
    }

    /// Starts it anew, with what it had, after its process was ended.
    pub fn restart(self) -> Self {
        // The guard removes the folder when its pipe closes: what the broker had is moved away first.
        let folder = scratch("broker-again");
        for name in ["data", "server.properties", "log4j2.xml"] {
            let (from, to) = (self.folder.join(name), folder.join(name));
            std::fs::rename(&from, &to).expect("a file of the broker");
        }
        let arguments = self
            .arguments
            .iter()
            .map(|argument| argument.replace(&self.folder.display().to_string(), &folder.display().to_string()));
        let arguments: Vec<String> = arguments.collect();
        let properties = folder.join("server.properties");
        let text = std::fs::read_to_string(&properties).expect("a file");
        let text = text.replace(&self.folder.display().to_string(), &folder.display().to_string());
        std::fs::write(&properties, text).expect("a file");
        Self::serve(folder, self.address.clone(), arguments)
    }

    fn serve(folder: PathBuf, address: String, arguments: Vec<String>) -> Self {
        let process = Shared::start(&folder, "java", &arguments);
        let broker = Self { address, process, folder, arguments };
        let consumer = broker.consumer("rig");
        wait::until_or("the broker answers", LIMIT, || broker.log(), || consumer.fetch_metadata(None, CALL).ok());
        // The first group of a fresh cluster waits seconds for its coordinator, unless somebody asked for one before.
        wait::until("a group coordinator", LIMIT, || consumer.committed_offsets(TopicPartitionList::new(), CALL).ok());
        broker
    }

    fn settings(&self) -> ClientConfig {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &self.address);
        settings
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        let mut settings = self.settings();
        settings.set("group.id", group).set("enable.auto.commit", "false").set("isolation.level", "read_committed");
        settings.create().expect("a consumer")
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        super::tail(&self.folder.join("log"))
    }

    /// Creates a topic and waits until it has its partitions.
    pub fn create_topic(&self, topic: &str, partitions: i32) {
        self.create_topic_with(topic, partitions, &[]);
    }

    /// The same, with settings.
    pub fn create_topic_with(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.settings().create().expect("an admin client");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
        for result in runtime.block_on(admin.create_topics(&[new], &AdminOptions::new())).expect("an answer") {
            result.expect("the topic is made");
        }
        let consumer = self.consumer("rig");
        let partitions = usize::try_from(partitions).expect("a count");
        wait::until("the topic's partitions", LIMIT, || {
            let metadata = consumer.fetch_metadata(Some(topic), CALL).ok()?;
            metadata.topics().first().filter(|found| found.partitions().len() == partitions).map(|_| ())
        });
    }

    /// Gives a topic more partitions.
    pub fn grow_topic(&self, topic: &str, partitions: usize) {
        let admin: AdminClient<DefaultClientContext> = self.settings().create().expect("an admin client");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let more = NewPartitions::new(topic, partitions);
        for result in runtime.block_on(admin.create_partitions(&[more], &AdminOptions::new())).expect("an answer") {
            result.expect("the topic grows");
        }
        let consumer = self.consumer("rig");
        wait::until("the topic's partitions", LIMIT, || {
            let metadata = consumer.fetch_metadata(Some(topic), CALL).ok()?;
            metadata.topics().first().filter(|found| found.partitions().len() == partitions).map(|_| ())
        });
    }

    /// Deletes a topic and waits until the broker does not know it any more.
    pub fn delete_topic(&self, topic: &str) {
        let admin: AdminClient<DefaultClientContext> = self.settings().create().expect("an admin client");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for result in runtime.block_on(admin.delete_topics(&[topic], &AdminOptions::new())).expect("an answer") {
            result.expect("the topic is deleted");
        }
        wait::until("the topic is gone", LIMIT, || {
            let metadata = self.consumer("rig").fetch_metadata(None, CALL).ok()?;
            metadata.topics().iter().all(|found| found.name() != topic).then_some(())
        });
    }

    /// Deletes the records of a partition below an offset, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, below: i64) {
        let admin: AdminClient<DefaultClientContext> = self.settings().create().expect("an admin client");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(below)).expect("a list");
        runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).expect("an answer");
        let start = || self.consumer("rig").fetch_watermarks(topic, partition, CALL).ok().filter(|(start, _)| *start == below);
        wait::until("the records are gone", LIMIT, start);
    }

    /// Writes records and waits until the broker has them.
    pub fn produce(&self, topic: &str, partition: i32, records: &[(&[u8], &[u8])]) {
        let producer: ThreadedProducer<DefaultProducerContext> = self.settings().create().expect("a producer");
        for (key, value) in records {
            producer
                .send(BaseRecord::to(topic).partition(partition).key(*key).payload(*value))
                .map_err(|(error, _)| error)
                .expect("queued");
        }
        producer.flush(LIMIT).expect("the broker has the records");
    }

    /// Writes a record without a value.
    pub fn produce_tombstone(&self, topic: &str, partition: i32, key: &[u8]) {
        let producer: ThreadedProducer<DefaultProducerContext> = self.settings().create().expect("a producer");
        let record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition).key(key);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
        producer.flush(LIMIT).expect("the broker has the record");
    }

    /// The offset behind the last record of a partition.
    pub fn end(&self, topic: &str, partition: i32) -> i64 {
        self.consumer("rig").fetch_watermarks(topic, partition, CALL).expect("watermarks").1
    }

    /// All records of a partition that are committed.
    pub fn read(&self, topic: &str, partition: i32) -> Vec<Read> {
        let consumer = self.consumer("rig-reader");
        let (start, end) = consumer.fetch_watermarks(topic, partition, CALL).expect("watermarks");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(start)).expect("a list");
        consumer.assign(&list).expect("assigned");
        let mut found = Vec::new();
        let at_end = |consumer: &BaseConsumer| {
            let position = consumer.position().ok()?;
            position.find_partition(topic, partition)?.offset().to_raw().filter(|at| *at >= end)
        };
        wait::until("the end of the partition", LIMIT, || {
            while let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                let headers = message
                    .headers()
                    .map(|headers| headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect());
                let bytes = |part: Option<&[u8]>| part.unwrap_or_default().to_vec();
                found.push(Read {
                    key: bytes(message.key()),
                    value: bytes(message.payload()),
                    headers: headers.unwrap_or_default(),
                });
            }
            if end == start { Some(end) } else { at_end(&consumer) }
        });
        found
    }

    /// What a group has committed for a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, partition);
        let answer = self.consumer(group).committed_offsets(asked, CALL).ok()?;
        match answer.find_partition(topic, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
        }
    }
}

/// Any 16 bytes, base64url.
const CLUSTER: &str = "bGlzdGtlZXBlci1yaWctMQ";

const LOGGING: &str = r#"<Configuration status="WARN"><Appenders><Console name="out"><PatternLayout pattern="%d %p %c %m%n"/></Console></Appenders>
<Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers></Configuration>"#;

fn server_properties(data: &str, client: u16, controller: u16, detours: &[Detour]) -> String {
    let (mut listeners, mut advertised, mut protocols) =
        (String::new(), format!("PLAINTEXT://127.0.0.1:{client}"), String::from("PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"));
    for (number, detour) in detours.iter().enumerate() {
        listeners.push_str(&format!(",DETOUR{number}://127.0.0.1:{}", detour.listens));
        advertised.push_str(&format!(",DETOUR{number}://127.0.0.1:{}", detour.advertised));
        protocols.push_str(&format!(",DETOUR{number}:PLAINTEXT"));
    }
    format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}{listeners}\n\
         advertised.listeners={advertised}\nlistener.security.protocol.map={protocols}\ncontroller.listener.names=CONTROLLER\n\
         log.dirs={data}\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=1\n\
         group.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=1000\nauto.create.topics.enable=false\n\
         broker.heartbeat.interval.ms=200\nbroker.session.timeout.ms=1000\n"
    )
}
