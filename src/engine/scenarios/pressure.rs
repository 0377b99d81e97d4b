//! Bounds: reading pauses at them, whatever is added meanwhile.

use crate::{
    engine::{
        Event, Input, Output,
        calls::TokenState,
        input::TokenOutcome,
        limits::{CHANGES_WAITING_MAX, LETTERS_BYTES_MAX},
        reason::{HoldReason, PauseReason},
    },
    model::{
        call::Request,
        catalog::ExportId,
        control::ControlAction,
        event::{DecodeFault, RawRecord, RecordContent, SourceRecord, Undecodable},
        position::{NextOffset, PartitionId, Position},
    },
};

use super::{P, START, Stage};

/// What the engine tells the reader, while no transaction is confirmed.
fn pauses(stage: &mut Stage) -> Vec<(Vec<PartitionId>, PauseReason)> {
    let outputs = std::iter::from_fn(|| stage.engine.poll_output());
    outputs
        .filter_map(|output| if let Output::Pause { partitions, reason } = output { Some((partitions, reason)) } else { None })
        .collect()
}

fn nonsense(offset: i64, bytes: usize) -> SourceRecord {
    let original = RawRecord { key: Some(b"p1".to_vec()), value: Some(vec![0; bytes]), headers: Vec::new() };
    let undecodable = Undecodable { kind: DecodeFault::Malformed, detail: "no JSON".into(), original };
    let content = RecordContent::Undecodable(Box::new(undecodable));
    let position = Position { partition: P, offset };
    SourceRecord { position, timestamp: crate::model::time::UnixMillis(START), hash: 0, content }
}

#[test]
fn large_dead_letters_pause_reading_long_before_they_are_many() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    let size = 1 << 20;
    let mut read = 0;
    for offset in 0..1_000 {
        stage.engine.handle_input(stage.now, Input::Records(vec![nonsense(offset, size)]));
        read += size;
        if let Some((_, reason)) = pauses(&mut stage).pop() {
            assert_eq!(reason, PauseReason::CommitBehind);
            assert!(read <= LETTERS_BYTES_MAX + 2 * size, "{read} bytes");
            return;
        }
    }
    panic!("{read} bytes wait for a transaction");
}

#[test]
fn a_paused_export_stops_nobodys_reading_and_is_named_once_it_does() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.order(ControlAction::Pause);
    while stage.engine.journal.waiting <= CHANGES_WAITING_MAX {
        let records = (0..10_000).map(|_| stage.next_entry()).collect();
        stage.engine.handle_input(stage.now, Input::Records(records));
        // Parked, and written.
        stage.pass(200_000);
    }
    let paused = |stage: &Stage| stage.events.iter().filter(|event| matches!(event, Event::Paused { .. })).count();
    assert_eq!(paused(&stage), 0, "what is read for others goes on");
    stage.order(ControlAction::Resume);
    stage.pass(100);
    let most = Some(ExportId(0));
    assert!(stage.events.contains(&Event::Paused { reason: PauseReason::ChangesWaiting, most }), "now calls end it");
}

#[test]
fn a_partition_that_the_source_gains_while_reading_is_paused_is_not_read() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    let post = stage.next_call();
    stage.started(&post, 1);
    let deadline = stage.now.mono.plus_ms(30_000);
    stage.engine.handle_input(stage.now, Input::Drain { deadline });
    assert_eq!(pauses(&mut stage), [(vec![P], PauseReason::Draining)]);
    let added = vec![NextOffset { partition: PartitionId(1), offset: 0 }];
    stage.engine.handle_input(stage.now, Input::PartitionsAdded { added, ends: Vec::new() });
    let outputs: Vec<Output> = std::iter::from_fn(|| stage.engine.poll_output()).collect();
    assert!(!outputs.iter().any(|output| matches!(output, Output::Resume { .. })), "{outputs:?}");
    assert_eq!(stage.engine.waiting_partitions(), [PartitionId(1)]);
}

#[test]
fn a_hold_that_is_tried_again_now_and_then_stops_nobodys_reading_in_between() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.tokens = vec![TokenOutcome::Missing; 20];
    stage.engine.connections[0].token = TokenState::Unread;
    stage.pass(1_000);
    assert_eq!(stage.engine.snapshot(stage.now).connections[0].held, Some(HoldReason::NoToken));
    while stage.engine.journal.waiting <= CHANGES_WAITING_MAX {
        let records = (0..20_000).map(|_| stage.next_entry()).collect();
        stage.engine.handle_input(stage.now, Input::Records(records));
        stage.pass(10_000);
    }
    stage.pass(60_000);
    assert!(stage.tokens.len() < 18, "it was looked for several times");
    assert!(!stage.events.iter().any(|event| matches!(event, Event::Paused { .. })));
    // Somebody signs in, and what waits is sent.
    stage.tokens.clear();
    stage.pass(60_000);
    assert!(stage.calls.iter().any(|call| matches!(call.request, Request::Import { .. })), "{:?}", stage.calls);
    for call in std::mem::take(&mut stage.calls) {
        stage.started(&call, 1);
    }
    assert!(stage.engine.wait_for_a_person.is_empty());
}
