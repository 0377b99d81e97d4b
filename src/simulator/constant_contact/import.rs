//! `POST /activities/contacts_file_import`: the multipart body, the file's rows, and what they do.

use http::HeaderMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    account::{Account, Joined, list_numbers},
    activities::Counts,
    answer::Answer,
    config::{SurplusLines, VendorConfig},
    members::Members,
};
use crate::model::{Text, address, call::ContactStatus, hash::text_hash};

/// Lines of a file, header included.
const LINES_MAX: usize = 40_000;
const CUSTOM_FIELDS_MAX: usize = 25;
const CUSTOM_FIELD_CHARACTERS_MAX: usize = 255;
const TEXT_CHARACTERS_MAX: usize = 50;
/// The columns that the method documents beside `email` and `cf:` ones.
const COLUMNS: [&str; 15] = [
    "first_name",
    "last_name",
    "phone",
    "job_title",
    "anniversary",
    "birthday_day",
    "birthday_month",
    "company_name",
    "street",
    "street2",
    "city",
    "state",
    "zip",
    "country",
    "sms_consent_date",
];

/// One row that can be processed; its address ends here in [`Rows::addresses`].
#[derive(Debug)]
struct Row {
    fields: u64,
    address_end: u32,
    line: u32,
}

/// The rows that can be processed, their addresses one behind the other.
#[derive(Debug, Default)]
struct Rows {
    rows: Vec<Row>,
    addresses: String,
}

impl Rows {
    fn push(&mut self, address: &str, fields: u64, line: u32) {
        self.addresses.push_str(address);
        // At most 40,000 addresses of a few dozen bytes.
        let address_end = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        self.rows.push(Row { fields, address_end, line });
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &Row)> {
        let mut begin = 0;
        self.rows.iter().map(move |row| {
            let end = row.address_end as usize;
            let address = self.addresses.get(begin..end).unwrap_or_default();
            begin = end;
            (address, row)
        })
    }
}

/// A checked import, waiting for its time.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) file_name: Text,
    pub(super) lists: Vec<u32>,
    rows: Rows,
    /// Records of the file without the header.
    pub(super) records: u64,
    counts: Counts,
    errors: Vec<String>,
}

/// The parts of a multipart body that the method knows.
struct Form<'b> {
    file_name: String,
    file: &'b [u8],
    list_ids: Vec<String>,
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(offset) = haystack.get(from..)?.iter().position(|&byte| byte == first) {
        let at = from + offset;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// The value of `name=` among the parameters of a header, quoted or not.
fn parameter<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.split(';').skip(1).find_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim_matches('"'))
    })
}

fn form<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<Form<'b>, Answer> {
    let media = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = parameter(media, "boundary").filter(|_| media.starts_with("multipart/form-data"));
    let boundary = boundary.ok_or_else(|| Answer::unsupported_media_type("the method takes multipart/form-data"))?;
    let malformed = || Answer::invalid("the multipart body is malformed");
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(&delimiter.as_bytes()[2..]).ok_or_else(malformed)?;
    let mut form = Form { file_name: String::new(), file: &[], list_ids: Vec::new() };
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(b"\r\n").ok_or_else(malformed)?;
        let end = position(rest, b"\r\n\r\n").ok_or_else(malformed)?;
        let head = std::str::from_utf8(&rest[..end]).map_err(|_| malformed())?;
        rest = &rest[end + 4..];
        let end = position(rest, delimiter.as_bytes()).ok_or_else(malformed)?;
        let (content, after) = (&rest[..end], &rest[end + delimiter.len()..]);
        rest = after;
        let disposition = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-disposition").then(|| value.trim())
        });
        let disposition = disposition.ok_or_else(malformed)?;
        match parameter(disposition, "name") {
            Some("file") => {
                form.file_name = parameter(disposition, "filename").unwrap_or_default().to_owned();
                form.file = content;
            }
            Some("list_ids") => {
                let text = std::str::from_utf8(content).map_err(|_| malformed())?;
                form.list_ids.extend(text.split(',').map(|id| id.trim().to_owned()));
            }
            Some("sms_permission_to_send") => {}
            Some(_) | None => return Err(Answer::invalid("the form has a field that the method does not know")),
        }
    }
    Ok(form)
}

/// What a column is for.
enum Column {
    Email,
    Text { name_hash: u64, characters_max: usize },
}

fn column(name: &str) -> Result<Column, Answer> {
    let name = name.trim().trim_start_matches('\u{feff}');
    if name == "email" {
        Ok(Column::Email)
    } else if name.strip_prefix("cf:").is_some_and(|field| !field.is_empty())
        || (name.starts_with("street") && COLUMNS.contains(&name))
    {
        Ok(Column::Text { name_hash: text_hash(name), characters_max: CUSTOM_FIELD_CHARACTERS_MAX })
    } else if COLUMNS.contains(&name) {
        Ok(Column::Text { name_hash: text_hash(name), characters_max: TEXT_CHARACTERS_MAX })
    } else {
        Err(Answer::invalid("the file has a column heading that the method does not know"))
    }
}

fn columns(header: &csv::ByteRecord) -> Result<Vec<Column>, Answer> {
    let names = header.iter().map(|name| std::str::from_utf8(name).unwrap_or_default());
    let columns: Vec<Column> = names.map(column).collect::<Result<_, _>>()?;
    let emails = columns.iter().filter(|column| matches!(column, Column::Email)).count();
    if emails != 1 {
        return Err(Answer::invalid("the file must have one column heading email"));
    }
    let custom = header.iter().filter(|name| name.starts_with(b"cf:")).count();
    if custom > CUSTOM_FIELDS_MAX {
        return Err(Answer::invalid("the file has more than 25 custom fields"));
    }
    Ok(columns)
}

/// Whether an address is in the form that [`address::normalise`] gives, as nearly all are: seen in one pass, without a copy.
fn is_normal(text: &str) -> bool {
    let (mut at, mut dot, mut before) = (None, false, b'.');
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'+' => {}
            b'.' if at.is_none() => {}
            b'.' if before != b'.' && before != b'@' => dot = true,
            b'@' if at.is_none() && place > 0 => at = Some(place),
            _ => return false,
        }
        before = byte;
    }
    dot && before != b'.' && text.len() <= address::ADDRESS_BYTES_MAX
}

impl Import {
    /// [`text_hash`] of the addresses that it touches.
    pub(super) fn hashes(&self) -> Vec<u64> {
        self.rows.iter().map(|(address, _)| text_hash(address)).collect()
    }

    /// Checks a request, and the rows of its file; nothing is done yet.
    pub(super) fn parse(account: &Account, config: &VendorConfig, headers: &HeaderMap, body: &[u8]) -> Result<Self, Answer> {
        let form = form(headers, body)?;
        let ends_in_csv = form.file_name.len() > 4 && form.file_name.to_ascii_lowercase().ends_with(".csv");
        if !ends_in_csv {
            return Err(Answer::unsupported_media_type("Wrong file format, upload file must be of type .csv"));
        }
        let ids: Vec<&str> = form.list_ids.iter().map(String::as_str).filter(|id| !id.is_empty()).collect();
        let mut lists = list_numbers(account, &ids)?;
        lists.sort_unstable();
        lists.dedup();
        // Silently: only the contacts in the first bytes are imported, so a row that is cut in two is not.
        let kept = if form.file.len() > config.import_bytes_max {
            let cut = &form.file[..config.import_bytes_max];
            cut.iter().rposition(|&byte| byte == b'\n').map_or(&cut[..0], |end| &cut[..=end])
        } else {
            form.file
        };
        let mut import = Self {
            file_name: Text::from(form.file_name),
            lists,
            rows: Rows::default(),
            records: 0,
            counts: Counts::default(),
            errors: Vec::new(),
        };
        import.read(kept, config)?;
        import.counts.items_total = import.records + u64::from(config.header_counted);
        Ok(import)
    }

    fn read(&mut self, file: &[u8], config: &VendorConfig) -> Result<(), Answer> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file);
        let mut record = csv::ByteRecord::new();
        let unreadable = |_| Answer::invalid("the file cannot be read as CSV");
        if !reader.read_byte_record(&mut record).map_err(unreadable)? {
            return Err(Answer::invalid("the file is empty"));
        }
        let columns = columns(&record)?;
        let mut line = 1_u32;
        while reader.read_byte_record(&mut record).map_err(unreadable)? {
            line += 1;
            if line as usize > LINES_MAX {
                match config.surplus_lines {
                    SurplusLines::Refused => return Err(Answer::invalid("the file has more than 40000 lines")),
                    SurplusLines::Dropped => break,
                }
            }
            self.records += 1;
            if record.len() != columns.len() {
                self.counts.error += 1;
                self.error(line, "Wrong number of columns", config);
                continue;
            }
            self.row(line, &columns, &record, config);
        }
        if self.records == 0 {
            return Err(Answer::invalid("the file has no contacts"));
        }
        Ok(())
    }

    fn row(&mut self, line: u32, columns: &[Column], record: &csv::ByteRecord, config: &VendorConfig) {
        let mut fields = 0;
        let mut raw = "";
        for (column, value) in columns.iter().zip(record) {
            let Ok(value) = std::str::from_utf8(value) else {
                self.counts.error += 1;
                return self.error(line, "Text is not UTF-8", config);
            };
            match column {
                Column::Email => raw = value,
                Column::Text { name_hash, characters_max } => {
                    if value.len() > *characters_max && value.chars().count() > *characters_max {
                        self.counts.error += 1;
                        return self.error(line, "Value too long", config);
                    }
                    if !value.is_empty() {
                        fields = xxh3_64_with_seed(value.as_bytes(), fields ^ name_hash);
                    }
                }
            }
        }
        let normalised;
        let address = if is_normal(raw) {
            Some(raw)
        } else {
            normalised = address::normalise(raw).ok();
            normalised.as_deref()
        };
        match address {
            Some(address) if address.len() <= config.address_bytes_max => self.rows.push(address, fields, line),
            Some(_) | None => {
                self.counts.correctable += 1;
                self.error(line, "Invalid email", config);
            }
        }
    }

    fn error(&mut self, line: u32, what: &str, config: &VendorConfig) {
        if self.errors.len() < config.activity_errors_max {
            self.errors.push(format!("Line {line}: {what}"));
        }
    }

    /// Does what the first `rows_max` rows of the file say; rows with one address are one contact.
    pub(super) fn apply(
        &mut self,
        account: &mut Account,
        config: &VendorConfig,
        now_s: u32,
        rows_max: usize,
    ) -> (Counts, Vec<String>) {
        let mut seen = Members::default();
        for (address, row) in std::mem::take(&mut self.rows).iter().take(rows_max) {
            let Some(number) = account.find_or_create(address, now_s) else { continue };
            let again = !seen.insert(number);
            let revived = account.contact(number).is_some_and(|contact| match contact.status {
                ContactStatus::Active => false,
                ContactStatus::Unsubscribed => config.import_lifts_opt_out,
                ContactStatus::Deleted => config.import_revives_deleted,
            });
            if revived {
                account.set_status(number, ContactStatus::Active, now_s);
            }
            let Some(contact) = account.contacts.get_mut(number as usize) else { continue };
            let may_join = match contact.status {
                ContactStatus::Active => true,
                ContactStatus::Unsubscribed | ContactStatus::Deleted => false,
            };
            if contact.status != ContactStatus::Deleted {
                contact.updated_s = now_s;
                if row.fields != 0 {
                    contact.fields = row.fields;
                }
            }
            if again {
                continue;
            }
            self.counts.person += 1;
            if !may_join {
                self.counts.cannot_add_to_list += 1;
                continue;
            }
            for &list in self.lists.iter().filter(|_| config.index_lag_s > 0) {
                if account.lists.get(list as usize).is_some_and(|list| !list.members.contains(number)) {
                    account.hide(number, list, now_s.saturating_add(config.index_lag_s));
                }
            }
            let full = self.lists.iter().any(|&list| account.join(number, list) == Joined::TooManyLists);
            if full {
                self.counts.error += 1;
                self.error(row.line, "Contact is on 50 lists", config);
            }
        }
        (self.counts, std::mem::take(&mut self.errors))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is taken without a copy is what the long way gives.
        #[test]
        fn an_address_in_its_normal_form_is_its_own(text in "[a-zA-Z0-9.+_@ ,é-]{0,24}") {
            if is_normal(&text) {
                prop_assert_eq!(address::normalise(&text), Ok(Text::new(&text)));
            }
        }

        #[test]
        fn usual_addresses_are_in_their_normal_form(local in "[a-z0-9._+-]{1,20}", domain in "[a-z0-9-]{1,9}(\\.[a-z0-9-]{1,9}){1,2}") {
            let address = format!("{local}@{domain}");
            prop_assert!(is_normal(&address), "{}", address);
        }
    }
}
