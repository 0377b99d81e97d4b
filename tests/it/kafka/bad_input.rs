//! Bad input blocks nothing.

use listkeeper::model::event::ChangeKind;

use crate::rig::{
    broker::Broker,
    stage::{LIMIT, World, partition_of},
    wait,
};

#[test]
fn what_cannot_be_used_becomes_a_dead_letter_or_is_counted() {
    let (broker, world) = (Broker::shared(), World::new("bad-input"));
    let event = |profile: &str, segment: &str, name: Option<&str>| world.value(profile, segment, ChangeKind::Entered, name);
    let mut unknown = event("p7", "gold", Some("Ana"));
    unknown[1..5].copy_from_slice(&4_000_000_u32.to_be_bytes());
    let other = event("p8", "gold", Some("Ana"));
    let filtered = event("p9", "silver", Some("Ana"));
    let without_address = event("p10", "gold", None);
    let records: [(&[u8], &[u8]); 5] =
        [(b"p6", b"nonsense"), (b"p7", &unknown), (b"p80", &other), (b"p9", &filtered), (b"p10", &without_address)];
    broker.produce(&world.topic, 0, &records);
    world.produce(broker, ChangeKind::Entered, 0..6, Some("Ana"));
    let replica = world.replica("r1");
    world.wait_for(broker, 0..6, &[&replica]);
    assert_eq!(partition_of(9), 0);

    let letters = wait::until("three letters", LIMIT, || {
        let letters = broker.read(&format!("{}.dead", world.group), 0);
        (letters.len() >= 3).then_some(letters)
    });
    let mut reasons: Vec<(Vec<u8>, String)> = letters
        .iter()
        .map(|letter| (letter.key.clone(), letter.header("__connect.errors.exception.message").unwrap_or_default()))
        .collect();
    reasons.sort();
    let keys: Vec<&[u8]> = reasons.iter().map(|(key, _)| key.as_slice()).collect();
    assert_eq!(keys, [b"p6".as_slice(), b"p7", b"p80"]);
    assert!(reasons[0].1.contains("zero byte"), "{reasons:?}");
    assert!(reasons[1].1.contains("does not know the schema id 4000000"), "{reasons:?}");
    assert!(reasons[2].1.contains("key is not the profile id"), "{reasons:?}");
    let nonsense = letters.iter().find(|letter| letter.key == b"p6").expect("a letter");
    assert_eq!(nonsense.value, b"nonsense", "the original bytes");
    for (outcome, records) in [("filtered", 1.0), ("without_address", 1.0)] {
        let label = format!("outcome=\"{outcome}\"");
        assert!((replica.metric("listkeeper_records_total", &label) - records).abs() < 0.5, "{outcome}");
    }
    assert!((replica.metric("listkeeper_dead_letters_total", "") - 3.0).abs() < 0.5);
}

#[test]
fn a_record_that_no_letter_can_hold_blocks_nothing() {
    let (broker, world) = (Broker::shared(), World::new("huge"));
    // As large as a client writes by default; with a letter's headers it is larger.
    let huge = vec![b'x'; 999_900];
    broker.produce(&world.topic, 0, &[(b"p6", &huge)]);
    world.produce(broker, ChangeKind::Entered, 0..6, Some("Ana"));
    let replica = world.replica("r1");
    world.wait_for(broker, 0..6, &[&replica]);
    let letters = broker.read(&format!("{}.dead", world.group), 0);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].key, b"p6");
    assert!(letters[0].value.is_empty());
    assert!(letters[0].header("listkeeper.original").is_some_and(|why| why.contains("too large")), "{:?}", letters[0]);
}
