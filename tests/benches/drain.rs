//! How many events the whole stage drains for each second of its own CPU time, and where that time goes.
//!
//! The broker, the registry and the simulated account run in other processes; the stage is the real binary. Beside it,
//! in the same run, stands what librdkafka alone takes to fetch the same records: the ratio of the two is what compares
//! between machines. Run it with `tests/run bench`; `LISTKEEPER_BENCH_PROFILES` sets the size (1,000,000 by default).

#[expect(clippy::disallowed_methods, reason = "a benchmark is told its size by the environment, and times real work")]
mod measured {
    use std::{
        collections::BTreeMap,
        fs,
        time::{Duration, Instant},
    };

    use nix::sys::{
        resource::{UsageWho, getrusage},
        signal::Signal,
        time::TimeValLike as _,
    };
    use rdkafka::{
        ClientConfig, Offset, TopicPartitionList,
        consumer::{BaseConsumer, Consumer as _},
        error::KafkaError,
    };
    use serde_json::Value;

    use crate::rig::{
        broker::Broker,
        http,
        process::Listkeeper,
        registry::Registry,
        stage::{PARTITIONS, World},
        wait,
    };

    const LIMIT: Duration = Duration::from_secs(600);
    /// Ticks of `/proc/PID/stat` in a second, the same on every Linux of today (USER_HZ).
    const TICKS: f64 = 100.0;

    pub fn run() -> String {
        let profiles = std::env::var("LISTKEEPER_BENCH_PROFILES").unwrap_or_else(|_| "1000000".into());
        let broker = Broker::shared();
        let mut world = World::on("drain-bench", broker, Registry::shared());
        world.unlimited = true;
        world.segment = "segment-1".into();
        world.account = crate::rig::stage::Account::start_with(&world.folder, "127.0.0.1:0", &["--fast"]);
        let events = produce(&world, &profiles);
        let fetched = fetch_alone(broker, &world.topic, events);
        let replica = world.replica("stage");
        let began = Instant::now();
        let log = || replica.process.log();
        wait::until_or("every offset is committed", LIMIT, log, || {
            let committed = |partition| broker.committed(&format!("{}.0", world.group), &world.topic, partition).unwrap_or(0);
            // Asked rarely: each question costs this process CPU, not the stage.
            (0..PARTITIONS).all(|partition| committed(partition) == broker.end(&world.topic, partition)).then_some(())
        });
        let seconds = began.elapsed().as_secs_f64();
        let id = replica.process.id();
        let (total, threads, peak_kb) = (cpu(id), by_thread(id), peak_kb(id));
        let applied =
            http::get(replica.admin, "/metrics").map_or(0.0, |(_, text)| sum(&text, "listkeeper_profiles_applied_total"));
        replica.process.signal(Signal::SIGTERM);
        let count = f64::from(u32::try_from(events).expect("small"));
        let mut text = format!(
            "drain: {events} events, {applied:.0} profiles applied, {seconds:.1} s\n  \
             the stage      {:>9.0} events per CPU second ({total:.2} CPU s, peak memory {} MiB)\n  \
             fetching alone {:>9.0} events per CPU second (librdkafka, one consumer)\n  \
             ratio          {:.3}\n  where the stage's time goes:\n",
            count / total,
            peak_kb / 1024,
            count / fetched,
            fetched / total,
        );
        for (part, ticks) in threads {
            text.push_str(&format!("    {part:<52} {:>5.1} %\n", 100.0 * ticks / TICKS / total));
        }
        text
    }

    fn produce(world: &World, profiles: &str) -> u64 {
        let arguments = [
            "produce",
            "--brokers",
            &world.broker,
            "--topic",
            &world.topic,
            "--registry",
            &world.registry,
            "--segments",
            "4",
            "--profiles",
            profiles,
            "--json",
        ];
        let mut producer = Listkeeper::start(&world.folder, "produce", &arguments);
        assert!(producer.ended(LIMIT).success(), "{}", producer.log());
        let said: Value = serde_json::from_str(&producer.said()).expect("JSON");
        said["events"].as_u64().expect("a count")
    }

    /// CPU seconds of this process for polling all records, once they were read by somebody else into the broker's
    /// cache.
    fn fetch_alone(broker: &Broker, topic: &str, events: u64) -> f64 {
        let mut last = 0.0;
        for _warm_then_measured in 0..2 {
            let before = own_cpu();
            let read: u64 = count(&broker.address, topic);
            assert!(read >= events, "{read} of {events}");
            last = own_cpu() - before;
        }
        last
    }

    /// Reads all partitions to their ends and counts the records.
    fn count(brokers: &str, topic: &str) -> u64 {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers).set("group.id", "bench-counter").set("enable.auto.commit", "false");
        settings.set("enable.partition.eof", "true").set("queued.min.messages", "1000000").set("fetch.wait.max.ms", "10");
        let consumer: BaseConsumer = settings.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("a list");
        }
        consumer.assign(&list).expect("assigned");
        let (mut records, mut ends) = (0, 0);
        while ends < PARTITIONS {
            match consumer.poll(LIMIT) {
                Some(Ok(_)) => records += 1,
                Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
                other => panic!("{other:?}"),
            }
        }
        records
    }

    fn own_cpu() -> f64 {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a usage");
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        f64::from(u32::try_from(micros / 1000).expect("small")) / 1000.0
    }

    fn ticks(stat: &str) -> f64 {
        // The name in brackets may hold spaces: fields are counted from behind it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum()
    }

    fn cpu(id: u32) -> f64 {
        ticks(&fs::read_to_string(format!("/proc/{id}/stat")).expect("a process")) / TICKS
    }

    fn peak_kb(id: u32) -> u64 {
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap_or_default()
    }

    fn by_thread(id: u32) -> BTreeMap<&'static str, f64> {
        let mut parts = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{id}/task")).expect("threads").flatten() {
            let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let part = match name.trim() {
                name if name.starts_with("kafka-source") => "source: poll, copy, Avro, hash (kafka-source)",
                name if name.starts_with("engine") => "engine: route, coalesce, batch, settle (engine)",
                name if name.starts_with("kafka-commits") => "state records and transactions (kafka-commits)",
                name if name.starts_with("tokio") => "CSV, HTTP, metrics (tokio)",
                name if name.starts_with("rdk") || name.starts_with("producer") => "librdkafka's own: fetch, produce (rdk)",
                _ => "the rest",
            };
            *parts.entry(part).or_insert(0.0) += ticks(&stat);
        }
        parts
    }

    fn sum(text: &str, name: &str) -> f64 {
        text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

#[expect(clippy::disallowed_methods, reason = "the rig waits, with bounds, for processes of the real world")]
#[expect(dead_code, reason = "the rig serves the tests too, which use more of it")]
#[path = "../it/rig/mod.rs"]
mod rig;

fn main() {
    use std::io::Write as _;
    let text = measured::run();
    std::io::stdout().write_all(text.as_bytes()).expect("stdout");
}
