//! WORDS: the plain data that every layer speaks. Nothing here decides, waits, or touches the world.
//!
//! May know: `serde`, and the value types below it. Knows of Kafka and HTTP by words only.

pub mod activity;
pub mod address;
pub mod batch;
pub mod call;
pub mod catalog;
pub mod control;
pub mod dead_letter;
pub mod event;
pub mod hash;
mod named;
pub mod position;
pub mod row;
pub mod state;
pub mod time;

pub(crate) use named::named;

/// A short text: profile ids, addresses, names of exports. Up to 24 bytes live without a heap allocation.
pub type Text = compact_str::CompactString;

/// A bulk activity's id, as the vendor gives it.
pub type ActivityId = uuid::Uuid;
/// A contact's id in one account, as the vendor gives it.
pub type ContactId = uuid::Uuid;
/// A contact list's id in one account, as the vendor gives it.
pub type ListId = uuid::Uuid;

/// The whole part of a number; 0 below 0, and the largest there is above.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, which is what is wanted")]
pub const fn whole(number: f64) -> u64 {
    number as u64
}
