//! Every bound in the engine, in one place.

/// A request may leave this long after the beginning of the last transaction that Kafka confirmed (L of the design).
pub const LEASE_MS: u64 = 5_000;
/// With calls to make, the next transaction begins when the lease has less than this left.
pub const LEASE_RENEW_MS: u64 = 2_500;
/// A new owner waits this long beyond lease and request deadline before its first call.
pub const TAKEOVER_MARGIN_MS: u64 = 1_000;
/// Rows of one import: 40,000 lines with the header (vendor, contacts_file_import).
pub const IMPORT_ROWS_MAX: usize = 39_999;
/// Bytes of one import's CSV: the vendor drops what lies beyond 4 MB without a word; room is left for the header.
pub const IMPORT_BYTES_MAX: usize = 3_990_000;
/// Contact ids of one removal (vendor, remove_list_memberships).
pub const REMOVAL_IDS_MAX: usize = 500;
/// Contacts on one page of a listing (vendor, `limit`).
pub const PAGE_CONTACTS: u64 = 500;
/// Batches of one connection that may be open at once: the vendor queues 1,000 activities of an account, those of others
/// among them.
pub const OPEN_BATCHES_MAX: usize = 900;
/// Rows in open batches of one connection; nothing more is cut above.
pub const OPEN_ROWS_MAX: u64 = 3_000_000;
/// Longer rows count as several of so many bytes.
pub const OPEN_ROW_BYTES: u64 = 100;
/// Changes that wait, over all exports; reading pauses above.
pub const CHANGES_WAITING_MAX: usize = 300_000;
/// Reading goes on below.
pub const CHANGES_WAITING_LOW: usize = 200_000;
/// Delivered records that are not settled; reading pauses above.
pub const RECORDS_UNSETTLED_MAX: u64 = 3_000_000;
/// Reading goes on below.
pub const RECORDS_UNSETTLED_LOW: u64 = 2_500_000;
/// Bytes of rows and addresses that wait; reading pauses above.
pub const WAITING_BYTES_MAX: usize = 128 << 20;
/// Members whose record is due: completed batches wait above, so that one transaction stays below about 30 MB.
pub const DIRTY_MEMBERS_MAX: usize = 100_000;
/// Dead letters that wait for a transaction; reading pauses above.
pub const LETTERS_MAX: usize = 10_000;
/// Bytes of the records that they carry: with what was read before the pause, one transaction stays far below what the
/// producer holds.
pub const LETTERS_BYTES_MAX: usize = 32 << 20;
/// Contact ids kept of each export's list.
pub const CONTACT_IDS_MAX: usize = 200_000;
/// Contacts of an open batch in one state record: below 1 MB.
pub const BATCH_CHUNK_ROWS: usize = 4_000;
/// Calls reserved ahead in the ledger.
pub const CALLS_RESERVED: u32 = 40;
/// Calls of a day that are kept for terms that do not know the vendor's clock yet.
pub const CLOCK_CALLS: u32 = 5;
/// Calls of a day that no batch may take: polls, looks and tokens go on with them.
pub const LANE_CALLS: u32 = 100;
/// Addresses, hashed, of one state record of those that a list had before: about 100 kB.
pub const PROTECTED_BUCKET: usize = 10_000;
/// A change waits at least this long for others that go with it.
pub const LINGER_MIN_MS: u64 = 1_000;
/// And this long while so many come, to all lists of its key, that it would be sent in parts,
pub const LINGER_POURING_MS: u64 = 10_000;
/// which is from here on, in changes of a second.
pub const POURING_PER_SECOND: u32 = 4_000;
/// So long before the vendor's midnight no call of the day is kept back any more.
pub const DAY_END_MS: u64 = 600_000;
/// Batches that are cut and not sent yet, in seconds of the key's pace: cutting earlier would only fence contacts.
pub const UNSENT_SECONDS: u32 = 2;
/// An activity that is overdue has its account begin nothing more for so long: it may be one that waits for others, and
/// then each that follows waits behind it.
pub const OVERDUE_HOLDS_MAX_MS: u64 = 900_000;
/// How often in a mean time between two calls an account's activities are read at the latest.
pub const CONFIRM_CALLS: u64 = 20;
/// They are read at the latest this long after they should have ended: in the mean over the changes of a key's accounts,
pub const CONFIRM_MAX_MS: u64 = 1_140_000;
/// and those of an account where little changes.
pub const CONFIRM_SMALL_MAX_MS: u64 = 1_700_000;
/// A contact that is to be deleted waits no longer than this for its look-up, whatever a call is worth.
pub const ERASED_WAITS_MAX_MS: u64 = 21_600_000;
/// The longest that the changes of a round whose removal was sent too early count as having waited.
pub const EARLY_WAITED_MAX_MS: u64 = 21_600_000;
/// Activities that should end within so much time of one another are read together,
pub const TOGETHER_MS: u64 = 2_000;
/// but the first of them no later than this.
pub const TOGETHER_MAX_MS: u64 = 12_000;
/// What a second of an unread row counts beside one of a waiting change.
pub const UNREAD_WEIGHT: f64 = 0.03;
/// The new day of the quota opens this long after midnight of the vendor's clock.
pub const MIDNIGHT_GUARD_MS: i64 = 30_000;
/// Dirty members and settled records wait at most this long for a transaction.
pub const COMMIT_INTERVAL_MS: u64 = 250;
/// An idle shard commits this often, so that its offsets do not expire.
pub const IDLE_COMMIT_MS: u64 = 3_600_000;
/// How far a wall clock of ours may be off. Nothing that only it tells is believed within this time.
pub const WALL_SKEW_MS: i64 = 3 * 3_600_000;
/// How far the vendor's `created_at` may lie before the time that a batch was opened at: that may be a wall clock's.
pub const CREATED_SKEW_MS: i64 = WALL_SKEW_MS + 300_000;
/// Pages of activities that one round of polls reads at most.
pub const POLL_PAGES_MAX: u32 = 20;
/// An activity that runs is read again at the latest after this long.
pub const POLL_INTERVAL_MAX_MS: u64 = 600_000;
/// A full queue of activities is tried again after this long, and after twice as long each time that it still is,
pub const QUEUE_FULL_MS: u64 = 30_000;
/// up to this.
pub const QUEUE_FULL_MAX_MS: u64 = 480_000;
/// The vendor shows an activity for ten days.
pub const ACTIVITY_SHOWN_MS: u64 = 10 * 86_400_000;
/// Characters of a name, and of a custom field, that the vendor takes: longer texts are cut before they wait.
pub const NAME_CHARACTERS_MAX: usize = 50;
/// See [`NAME_CHARACTERS_MAX`].
pub const CUSTOM_CHARACTERS_MAX: usize = 255;

/// Imports leave within this time of the beginning of the last complete reading of deleted and unsubscribed contacts.
pub const SUPPRESSION_FRESH_MS: u64 = 900_000;
/// Where many accounts share a key, one of them is read in so much time,
pub const SUPPRESSION_ACCOUNT_MS: u64 = 180_000;
/// and each at the latest after this long.
pub const SUPPRESSION_FRESH_MAX_MS: u64 = 3_600_000;
/// How far before the last reading the next one begins: the vendor's index may be late.
pub const SUPPRESSION_OVERLAP_MS: i64 = 900_000;
/// A suppressed contact that is wanted is looked up this long after the vendor showed it so.
pub const SUPPRESSION_LOOK_UP_MS: i64 = 7 * 86_400_000;
/// Deleted and unsubscribed contacts that are kept of a connection, about 25 bytes each: imports are held above.
pub const SUPPRESSED_MAX: usize = 2_000_000;

/// The same for staging lists, whose contacts nobody asked to import.
pub const STAGING_FRESH_MS: u64 = 300_000;
/// Staging lists that a connection has at most before the counts of those it has are read, which frees them.
pub const STAGING_LISTS_USUAL: usize = 32;
/// And that it has at most.
pub const STAGING_LISTS_MAX: usize = 50;
/// Where the vendor makes no more lists, it is asked again after this long.
pub const STAGING_RETRY_MS: u64 = 3_600_000;
/// After so many rounds that failed one after the other, removals go another way for [`ROUNDS_PAUSE_MS`].
pub const ROUNDS_FAILED_MAX: u32 = 3;
/// See [`ROUNDS_FAILED_MAX`].
pub const ROUNDS_PAUSE_MS: u64 = 900_000;

/// Sends of one address in an account within a day: more may have the vendor flag it as abuse.
pub const SENDS_MAX: usize = 5;
/// How long a send counts: a day, and the second to which the vendor's times are known.
pub const SENDS_WINDOW_MS: i64 = 86_401_000;
/// Addresses of an account that left their list within a day of their only send, as far as they are remembered: about 100
/// bytes each. Where more do, segments are made anew rather than flapping.
pub const SENT_ONCE_MAX: usize = 500_000;
/// Where an import would pass what the account's contract allows, its contacts are counted again if that is longer ago.
pub const COUNT_FRESH_MS: u64 = 180_000;
/// While adds wait for room, the account's contacts are counted this often.
pub const COUNT_AGAIN_MS: u64 = 900_000;

/// Imports that a search for refused rows may cost: with their polls about 20 calls.
pub const SEARCH_IMPORTS_MAX: u32 = 10;

/// Rows of batches that were given up, kept until the vendor would show them no more: the oldest batches go above.
pub const GIVEN_UP_ROWS_MAX: usize = 200_000;

/// Staging lists that an account with so many rounds a day has before their counts are read, where calls are dear. To make
/// one costs a call, and a reading costs one for as many rounds as there are lists: the root of the rounds for which a list
/// lasts costs the fewest. It lasts for weeks; a week is counted on.
#[must_use]
pub fn staging_lists_usual(rounds_per_day: f64) -> usize {
    usize::try_from(crate::model::whole((7.0 * rounds_per_day).sqrt())).unwrap_or(0).min(STAGING_LISTS_USUAL)
}

/// A length as a counter.
pub(super) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
