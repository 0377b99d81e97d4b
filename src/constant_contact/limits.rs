//! The vendor's documented numbers.

/// Lines of an imported file, the header among them (`POST /activities/contacts_file_import`).
pub const IMPORT_LINES_MAX: usize = 40_000;
/// Bytes of an imported file. The documents say 4 MB without saying which; what lies beyond is dropped without a word,
/// so the smaller reading counts.
pub const IMPORT_BYTES_MAX: usize = 4_000_000;
/// Contact ids of one removal (`POST /activities/remove_list_memberships`, `source.contact_ids`).
pub const REMOVAL_IDS_MAX: usize = 500;
/// Lists named in one import or removal.
pub const LISTS_MAX: usize = 50;
/// Items on one page (`GET /contacts`, `GET /activities`, `GET /contact_lists`, `limit`).
pub const PAGE_ITEMS_MAX: usize = 500;
/// Lists on one page (`GET /contact_lists`, `limit`: 1,000 in the schema, which is all that an account may have).
pub const LISTS_PAGE_MAX: usize = 1_000;
/// Characters of a first or last name (`JsonImportContact`).
pub const NAME_CHARACTERS_MAX: usize = 50;
/// Characters of a custom field's value (`JsonImportContact`).
pub const CUSTOM_FIELD_CHARACTERS_MAX: usize = 255;
/// Requests of the token endpoint in a second, as the vendor's staff says.
pub const TOKEN_CALLS_PER_SECOND: u32 = 1;
