//! Each kind's fields, in the order of its schema in `schemas/state`.

use crate::model::{
    batch::{Operation, RoundStep, StagedRound},
    position::{NextOffset, PartitionId, Position},
    row::Row,
    state::{
        Applied, BatchChunk, BatchContact, ConnectionRecord, ControlRecord, ExportRecord, Growth, Header, LedgerRecord,
        MemberCut, PartitionHeader, Refused, RoutedExport, Sent, SettledRecord, StagingListRecord, StoppedExport, StoppedSegment,
        SuppressedBucket,
    },
    time::{UnixMillis, UtcDay},
};

use super::super::binary::{Fault, Reader, write_array, write_flag, write_long, write_option, write_text};

type Read<T> = Result<T, Fault>;

fn write_hash(out: &mut Vec<u8>, hash: u64) {
    write_long(out, hash.cast_signed());
}

fn read_hash(reader: &mut Reader<'_>) -> Read<u64> {
    Ok(reader.long()?.cast_unsigned())
}

fn write_id(out: &mut Vec<u8>, id: uuid::Uuid) {
    let mut buffer = uuid::Uuid::encode_buffer();
    write_text(out, id.as_hyphenated().encode_lower(&mut buffer));
}

fn write_position(out: &mut Vec<u8>, position: Position) {
    write_long(out, i64::from(position.partition.0));
    write_long(out, position.offset);
}

fn read_position(reader: &mut Reader<'_>) -> Read<Position> {
    Ok(Position { partition: PartitionId(reader.number()?), offset: reader.long()? })
}

fn write_next(out: &mut Vec<u8>, next: NextOffset) {
    write_long(out, i64::from(next.partition.0));
    write_long(out, next.offset);
}

fn read_next(reader: &mut Reader<'_>) -> Read<NextOffset> {
    Ok(NextOffset { partition: PartitionId(reader.number()?), offset: reader.long()? })
}

pub(super) fn write_header(out: &mut Vec<u8>, header: &Header) {
    write_long(out, i64::from(header.format));
    write_long(out, header.written_at.0);
    write_flag(out, header.ended);
    write_array(out, &header.partitions, |out, partition| {
        write_long(out, i64::from(partition.next.partition.0));
        write_long(out, partition.next.offset);
        write_option(out, partition.last_settled.as_ref(), |out, settled| {
            write_long(out, settled.offset);
            write_long(out, settled.timestamp.0);
            write_hash(out, settled.hash);
        });
    });
    write_array(out, &header.routed, |out, routed| {
        write_text(out, &routed.export);
        write_text(out, &routed.connection);
        write_text(out, &routed.list);
        write_hash(out, routed.mapping_hash);
        write_array(out, &routed.segments, |out, segment| write_text(out, segment));
    });
    write_array(out, &header.stopped, |out, stopped| {
        write_text(out, &stopped.export);
        write_text(out, &stopped.connection);
        write_text(out, &stopped.list);
        write_array(out, &stopped.segments, |out, segment| {
            write_text(out, &segment.segment);
            write_array(out, &segment.at, |out, next| write_next(out, *next));
        });
    });
    write_array(out, &header.grown, |out, growth| {
        write_array(out, &growth.added, |out, partition| write_long(out, i64::from(partition.0)));
        write_array(out, &growth.ends, |out, end| write_next(out, *end));
    });
}

pub(super) fn read_header(reader: &mut Reader<'_>) -> Read<Header> {
    Ok(Header {
        format: reader.number()?,
        written_at: UnixMillis(reader.long()?),
        ended: reader.flag()?,
        partitions: reader.array(|reader| {
            Ok(PartitionHeader {
                next: NextOffset { partition: PartitionId(reader.number()?), offset: reader.long()? },
                last_settled: reader.option(|reader| {
                    Ok(SettledRecord { offset: reader.long()?, timestamp: UnixMillis(reader.long()?), hash: read_hash(reader)? })
                })?,
            })
        })?,
        routed: reader.array(|reader| {
            Ok(RoutedExport {
                export: reader.text()?,
                connection: reader.text()?,
                list: reader.text()?,
                mapping_hash: read_hash(reader)?,
                segments: reader.array(Reader::text)?,
            })
        })?,
        stopped: reader.appended(|reader| reader.array(read_stopped))?,
        grown: reader.appended(|reader| {
            reader.array(|reader| {
                Ok(Growth { added: reader.array(|reader| Ok(PartitionId(reader.number()?)))?, ends: reader.array(read_next)? })
            })
        })?,
    })
}

fn read_stopped(reader: &mut Reader<'_>) -> Read<StoppedExport> {
    Ok(StoppedExport {
        export: reader.text()?,
        connection: reader.text()?,
        list: reader.text()?,
        segments: reader.array(|reader| Ok(StoppedSegment { segment: reader.text()?, at: reader.array(read_next)? }))?,
    })
}

pub(super) fn write_member(out: &mut Vec<u8>, cut: &MemberCut) {
    write_array(out, &cut.segments, |out, segment| write_text(out, segment));
    write_option(out, cut.address.as_ref(), |out, address| write_text(out, address));
    write_option(out, cut.row.as_ref(), |out, row| {
        write_option(out, row.first_name.as_ref(), |out, name| write_text(out, name));
        write_option(out, row.last_name.as_ref(), |out, name| write_text(out, name));
        write_array(out, &row.custom, |out, value| write_option(out, value.as_ref(), |out, value| write_text(out, value)));
    });
    write_array(out, &cut.positions, |out, position| write_position(out, *position));
    write_long(out, cut.changed_at.0);
    write_array(out, &cut.applied, |out, applied| {
        write_text(out, &applied.address);
        write_id(out, applied.list);
        write_hash(out, applied.row_hash);
        write_long(out, applied.at.0);
    });
    write_option(out, cut.refused.as_ref(), |out, refused| {
        write_hash(out, refused.row_hash);
        write_text(out, &refused.reason);
        write_position(out, refused.position);
    });
    write_flag(out, cut.erased);
    write_array(out, &cut.sent, |out, sent| {
        write_hash(out, sent.address_hash);
        write_array(out, &sent.at, |out, at| write_long(out, at.0));
    });
}

pub(super) fn read_member(reader: &mut Reader<'_>) -> Read<MemberCut> {
    Ok(MemberCut {
        segments: reader.array(Reader::text)?,
        address: reader.option(Reader::text)?,
        row: reader.option(|reader| {
            Ok(Row {
                first_name: reader.option(Reader::text)?,
                last_name: reader.option(Reader::text)?,
                custom: reader.array(|reader| reader.option(Reader::text))?,
            })
        })?,
        positions: reader.array(read_position)?,
        changed_at: UnixMillis(reader.long()?),
        applied: reader.array(|reader| {
            Ok(Applied {
                address: reader.text()?,
                list: reader.id()?,
                row_hash: read_hash(reader)?,
                at: UnixMillis(reader.long()?),
            })
        })?,
        refused: reader.option(|reader| {
            Ok(Refused { row_hash: read_hash(reader)?, reason: reader.text()?, position: read_position(reader)? })
        })?,
        erased: reader.flag()?,
        sent: reader.appended(|reader| {
            reader.array(|reader| {
                Ok(Sent { address_hash: read_hash(reader)?, at: reader.array(|reader| Ok(UnixMillis(reader.long()?)))? })
            })
        })?,
    })
}

pub(super) fn write_batch(out: &mut Vec<u8>, chunk: &BatchChunk) {
    write_long(
        out,
        match chunk.operation {
            Operation::Import => 0,
            Operation::Remove => 1,
        },
    );
    write_text(out, &chunk.export);
    write_id(out, chunk.list);
    write_long(out, chunk.opened_at.0);
    write_long(out, i64::from(chunk.chunks));
    write_flag(out, chunk.given_up);
    write_array(out, &chunk.rows, |out, row| {
        write_text(out, &row.profile);
        write_text(out, &row.address);
        write_option(out, row.contact_id.as_ref(), |out, id| write_id(out, *id));
        write_position(out, row.position);
    });
    write_text(out, &chunk.connection);
    write_option(out, chunk.round.as_ref(), |out, round| {
        write_id(out, round.list);
        let step = match round.step {
            RoundStep::Import => 0,
            RoundStep::RemoveBoth | RoundStep::RemoveAhead => 1,
            RoundStep::RemoveTarget => 2,
            RoundStep::Empty => 3,
        };
        write_long(out, step);
    });
    write_flag(out, chunk.deletes);
    // A field of its own: the version before knows the step as a removal from both lists.
    write_flag(out, chunk.round.is_some_and(|round| round.step == RoundStep::RemoveAhead));
}

fn read_round(reader: &mut Reader<'_>) -> Read<StagedRound> {
    let list = reader.id()?;
    let step = match reader.long()? {
        0 => RoundStep::Import,
        1 => RoundStep::RemoveBoth,
        2 => RoundStep::RemoveTarget,
        3 => RoundStep::Empty,
        _ => return Err(Fault::Range),
    };
    Ok(StagedRound { list, step })
}

pub(super) fn read_batch(reader: &mut Reader<'_>) -> Read<BatchChunk> {
    let mut chunk = BatchChunk {
        operation: match reader.long()? {
            0 => Operation::Import,
            1 => Operation::Remove,
            _ => return Err(Fault::Range),
        },
        export: reader.text()?,
        list: reader.id()?,
        opened_at: UnixMillis(reader.long()?),
        chunks: reader.number()?,
        given_up: reader.flag()?,
        rows: reader.array(|reader| {
            Ok(BatchContact {
                profile: reader.text()?,
                address: reader.text()?,
                contact_id: reader.option(Reader::id)?,
                position: read_position(reader)?,
            })
        })?,
        connection: reader.appended(Reader::text)?,
        round: reader.appended(|reader| reader.option(read_round))?,
        deletes: reader.appended(Reader::flag)?,
    };
    if reader.appended(Reader::flag)?
        && let Some(round) = &mut chunk.round
    {
        round.step = RoundStep::RemoveAhead;
    }
    Ok(chunk)
}

pub(super) fn write_ledger(out: &mut Vec<u8>, ledger: LedgerRecord) {
    write_long(out, ledger.day.0);
    write_long(out, i64::from(ledger.calls));
    write_long(out, i64::from(ledger.calls_next_day));
}

pub(super) fn read_ledger(reader: &mut Reader<'_>) -> Read<LedgerRecord> {
    Ok(LedgerRecord { day: UtcDay(reader.long()?), calls: reader.number()?, calls_next_day: reader.number()? })
}

fn write_minutes(out: &mut Vec<u8>, minutes: &[(i64, u64)]) {
    write_array(out, minutes, |out, (minute, count)| {
        write_long(out, *minute);
        write_long(out, i64::try_from(*count).unwrap_or(i64::MAX));
    });
}

fn read_minutes(reader: &mut Reader<'_>) -> Read<Vec<(i64, u64)>> {
    reader.array(|reader| Ok((reader.long()?, reader.number()?)))
}

pub(super) fn write_export(out: &mut Vec<u8>, export: &ExportRecord) {
    write_option(out, export.list.as_ref(), |out, list| write_id(out, *list));
    write_minutes(out, &export.rows_by_minute);
    write_flag(out, export.existing_read);
    write_option(out, export.existing_from.as_ref(), |out, at| write_long(out, at.0));
    write_option(out, export.control.started_at.as_ref(), |out, at| write_long(out, at.0));
    write_flag(out, export.control.paused);
    write_long(out, i64::try_from(export.control.approved_removals).unwrap_or(i64::MAX));
    write_minutes(out, &export.removed_by_minute);
    write_flag(out, export.existing_adopted);
    for arrivals in export.arrivals_per_hour {
        write_long(out, i64::try_from(arrivals).unwrap_or(i64::MAX));
    }
}

pub(super) fn read_export(reader: &mut Reader<'_>) -> Read<ExportRecord> {
    Ok(ExportRecord {
        list: reader.option(Reader::id)?,
        rows_by_minute: read_minutes(reader)?,
        existing_read: reader.appended(Reader::flag)?,
        existing_from: reader.appended(|reader| reader.option(|reader| Ok(UnixMillis(reader.long()?))))?,
        control: ControlRecord {
            started_at: reader.appended(|reader| reader.option(|reader| Ok(UnixMillis(reader.long()?))))?,
            paused: reader.appended(Reader::flag)?,
            approved_removals: reader.appended(Reader::number)?,
        },
        removed_by_minute: reader.appended(read_minutes)?,
        existing_adopted: reader.appended(Reader::flag)?,
        arrivals_per_hour: [reader.appended(Reader::number)?, reader.appended(Reader::number)?],
    })
}

pub(super) fn write_hashes(out: &mut Vec<u8>, hashes: &[u64]) {
    write_array(out, hashes, |out, hash| write_hash(out, *hash));
}

pub(super) fn read_hashes(reader: &mut Reader<'_>) -> Read<Vec<u64>> {
    reader.array(read_hash)
}

pub(super) fn write_connection(out: &mut Vec<u8>, connection: &ConnectionRecord) {
    write_option(out, connection.suppressed_read_at.as_ref(), |out, at| write_long(out, at.0));
    write_option(out, connection.names_echoed.as_ref(), |out, echoed| write_flag(out, *echoed));
    write_long(out, connection.activity_start_ms.cast_signed());
    write_long(out, connection.activity_row_us.cast_signed());
    write_option(out, connection.removes_from_source.as_ref(), |out, removes| write_flag(out, *removes));
    write_array(out, &connection.staging_lists, |out, staging| {
        write_id(out, staging.list);
        write_long(out, i64::from(staging.number));
        write_flag(out, staging.condemned);
    });
    write_minutes(out, &connection.adds_by_minute);
}

pub(super) fn read_connection(reader: &mut Reader<'_>) -> Read<ConnectionRecord> {
    Ok(ConnectionRecord {
        suppressed_read_at: reader.option(|reader| Ok(UnixMillis(reader.long()?)))?,
        names_echoed: reader.option(Reader::flag)?,
        activity_start_ms: reader.appended(Reader::number)?,
        activity_row_us: reader.appended(Reader::number)?,
        removes_from_source: reader.appended(|reader| reader.option(Reader::flag))?,
        staging_lists: reader.appended(|reader| {
            reader
                .array(|reader| Ok(StagingListRecord { list: reader.id()?, number: reader.number()?, condemned: reader.flag()? }))
        })?,
        adds_by_minute: reader.appended(read_minutes)?,
    })
}

pub(super) fn write_suppressed(out: &mut Vec<u8>, bucket: &SuppressedBucket) {
    write_array(out, &bucket.contacts, |out, (hash, shown_at)| {
        write_hash(out, *hash);
        write_long(out, shown_at.0);
    });
}

pub(super) fn read_suppressed(reader: &mut Reader<'_>) -> Read<SuppressedBucket> {
    Ok(SuppressedBucket { contacts: reader.array(|reader| Ok((read_hash(reader)?, UnixMillis(reader.long()?))))? })
}
