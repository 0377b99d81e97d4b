//! What can be chosen about the model: the documented limits, and each inferred behaviour with its default.

/// How long an activity takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivityTime {
    /// In state `initialized`, before the work begins.
    pub queued_ms: u64,
    /// In state `processing`, whatever the size.
    pub base_ms: u64,
    /// In state `processing`, for each 1,000 rows or contacts.
    pub per_1000_rows_ms: u64,
    /// Up to this part of the above is added, by seed.
    pub jitter_percent: u8,
}

impl Default for ActivityTime {
    fn default() -> Self {
        Self { queued_ms: 500, base_ms: 1_500, per_1000_rows_ms: 50, jitter_percent: 20 }
    }
}

/// When an activity's effect on contacts and lists happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// As the activity turns `processing`.
    AtStart,
    /// As the activity turns `completed`.
    AtEnd,
}

/// How often an activity ends otherwise than `completed`, in percent of all; the API has no way to ask for it, but names the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BadEndings {
    /// `failed`.
    pub failed_percent: u8,
    /// `cancelled`.
    pub cancelled_percent: u8,
    /// `timed_out`.
    pub timed_out_percent: u8,
    /// How much of its work such an activity did before it ended: all of it up to this part, by seed. What was done stays done.
    pub done_percent_max: u8,
}

/// What happens to a file of more than 40,000 lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SurplusLines {
    /// 400.
    Refused,
    /// 201, and the lines beyond are not processed.
    Dropped,
}

/// What a removal does whose source is a list that it also takes the contacts off. Undocumented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceAmongTargets {
    /// The contacts leave all lists that are named.
    Leaves,
    /// The source is emptied first, and nobody is left to leave the others.
    EmptiedFirst,
    /// The contacts leave the others, and stay on the source.
    Kept,
    /// 400.
    Refused,
}

/// An application that may refresh tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthClient {
    /// Its id, which is the API key that the limits belong to.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// The refresh token that its sign-in gave it.
    pub refresh_token: String,
}

/// What a vendor is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorConfig {
    /// Requests in any second, by API key; `None` lifts the limit.
    pub calls_per_second: Option<u32>,
    /// Requests in a day of UTC, by API key; `None` lifts the limit.
    pub calls_per_day: Option<u32>,
    /// Requests to the token endpoint in any second; `None` lifts the limit.
    pub token_calls_per_second: Option<u32>,
    /// How long activities take.
    pub activity_ms: ActivityTime,
    /// Activities complete at once.
    pub instant: bool,
    /// The one bearer token that is accepted beside issued ones; `None` accepts any.
    pub access_token: Option<String>,
    /// Decides ids, tokens and durations.
    pub seed: u64,
    /// Who may refresh; empty accepts any client, and each refresh token that was not used up.
    pub oauth_clients: Vec<OauthClient>,
    /// A refresh token serves once (the portal's "rotating"); `false` is "long lived".
    pub rotating_refresh_tokens: bool,
    /// How long an issued access token serves.
    pub access_token_life_s: u64,
    /// An import makes a deleted contact active again. Undocumented; the default is that it does not.
    pub import_revives_deleted: bool,
    /// An import lifts a contact's opt-out. Documented not to; the default is that it does not.
    pub import_lifts_opt_out: bool,
    /// Whoever opts out leaves all lists. Undocumented; the default is that it stays on them, counted apart.
    pub opt_out_leaves_lists: bool,
    /// Activities of imports show their file's name. Inferred; the default is that they do.
    pub names_echoed: bool,
    /// `items_total_count` of an import includes the header row, as the schema of `ActivityImport` words it.
    pub header_counted: bool,
    /// When the work is done.
    pub execution: Execution,
    /// Activities that do not complete. The default has none.
    pub bad_endings: BadEndings,
    /// One activity at a time, in the order of creation (said of V2). The default is side by side.
    pub serial: bool,
    /// Files of more than 40,000 lines. The default refuses; the API's text has them "not processed".
    pub surplus_lines: SurplusLines,
    /// The bytes of an import's file that are kept.
    pub import_bytes_max: usize,
    /// The longest address of an import; the documents say 50 and 80.
    pub address_bytes_max: usize,
    /// How many texts `activity_errors` holds at most.
    pub activity_errors_max: usize,
    /// Activities in the account that are not final; one more is answered with 429.
    pub activities_queued_max: usize,
    /// A request that is refused because it is one too many in its second counts towards the day.
    pub refused_calls_counted: bool,
    /// A removal that names its source among the lists that are left. The default is what its words say.
    pub source_among_targets: SourceAmongTargets,
    /// How long a contact that an import has put on a list is not shown as a member: indexes lag. The default is not at all.
    pub index_lag_s: u32,
    /// Every application step is kept until `drain_applied` takes it: for oracles that do.
    pub observed: bool,
}

impl Default for VendorConfig {
    fn default() -> Self {
        Self {
            calls_per_second: Some(4),
            calls_per_day: Some(10_000),
            token_calls_per_second: Some(1),
            activity_ms: ActivityTime::default(),
            instant: false,
            access_token: None,
            seed: 1,
            oauth_clients: Vec::new(),
            rotating_refresh_tokens: true,
            access_token_life_s: 86_400,
            import_revives_deleted: false,
            import_lifts_opt_out: false,
            opt_out_leaves_lists: false,
            names_echoed: true,
            header_counted: true,
            execution: Execution::AtEnd,
            bad_endings: BadEndings::default(),
            serial: false,
            surplus_lines: SurplusLines::Refused,
            import_bytes_max: 4_000_000,
            address_bytes_max: 80,
            activity_errors_max: 100,
            activities_queued_max: 1_000,
            refused_calls_counted: true,
            source_among_targets: SourceAmongTargets::Leaves,
            index_lag_s: 0,
            observed: false,
        }
    }
}
