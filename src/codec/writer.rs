//! Events in the published layout: what `produce`, the demo and the simulated worlds write.

use crate::model::{event::ChangeKind, time::UnixMillis};

use super::{
    binary::{write_count, write_long, write_text},
    wire_format::{self, SchemaId},
};

/// The published schema of events.
pub const SEGMENT_MEMBERSHIP_CHANGED: &str = include_str!("../../schemas/SegmentMembershipChanged.avsc");

/// An event to be written.
#[derive(Debug, Clone, Copy)]
pub struct WrittenEvent<'a> {
    /// For tracing.
    pub event_id: &'a str,
    /// The profile; also the record's key.
    pub profile_id: &'a str,
    /// The segment.
    pub segment_id: Option<&'a str>,
    /// What happened.
    pub change: ChangeKind,
    /// When.
    pub occurred_at: UnixMillis,
    /// The profile's fields.
    pub profile: Option<WrittenProfile<'a>>,
}

/// A profile's fields to be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct WrittenProfile<'a> {
    /// The address.
    pub email: Option<&'a str>,
    /// The first name.
    pub first_name: Option<&'a str>,
    /// The last name.
    pub last_name: Option<&'a str>,
    /// Whatever else.
    pub attributes: &'a [(&'a str, &'a str)],
}

/// Writes events: plain datums, or in the wire format with a schema id.
#[derive(Debug, Clone, Copy)]
pub struct EventWriter {
    id: Option<SchemaId>,
}

impl EventWriter {
    /// `id` is the schema's in the registry; without one, plain datums are written.
    #[must_use]
    pub const fn new(id: Option<SchemaId>) -> Self {
        Self { id }
    }

    /// Appends the value of an event.
    pub fn value(&self, event: &WrittenEvent<'_>, out: &mut Vec<u8>) {
        if let Some(id) = self.id {
            wire_format::write_head(out, id);
        }
        write_text(out, event.event_id);
        write_text(out, event.profile_id);
        optional(out, event.segment_id);
        write_long(
            out,
            match event.change {
                ChangeKind::Entered => 0,
                ChangeKind::Exited => 1,
                ChangeKind::Updated => 2,
            },
        );
        write_long(out, event.occurred_at.0);
        write_long(out, i64::from(event.profile.is_some()));
        if let Some(profile) = &event.profile {
            optional(out, profile.email);
            optional(out, profile.first_name);
            optional(out, profile.last_name);
            if !profile.attributes.is_empty() {
                write_count(out, profile.attributes.len());
                for (name, value) in profile.attributes {
                    write_text(out, name);
                    optional(out, Some(value));
                }
            }
            write_long(out, 0);
        }
    }
}

fn optional(out: &mut Vec<u8>, text: Option<&str>) {
    write_long(out, i64::from(text.is_some()));
    if let Some(text) = text {
        write_text(out, text);
    }
}
