//! The model against the vendor's facts, one table for each, as a client would meet them.
//!
//! Where the vendor is silent the model's own choice is tested, and its comment says so.

mod activities;
mod contacts;
mod imports;
mod limits;
mod lists;
mod removals;
mod report;
mod tokens;

use http::HeaderMap;
use serde_json::json;

use super::*;

/// A time in the middle of a day of UTC: 2023-11-14T22:13:20Z.
const BASE: UnixMillis = UnixMillis(1_700_000_000_000);

/// A vendor without limits of its own, and a clock that stands still unless it is told.
struct Client {
    vendor: Vendor,
    at_ms: i64,
}

impl Client {
    fn new(config: VendorConfig) -> Self {
        Self { vendor: Vendor::new(config, BASE), at_ms: 0 }
    }

    /// Without limits of requests, because most facts are about something else.
    fn unlimited(config: VendorConfig) -> Self {
        Self::new(VendorConfig { calls_per_second: None, calls_per_day: None, token_calls_per_second: None, ..config })
    }

    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> (u16, HeaderMap, Bytes) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.vendor.handle(BASE.plus_ms(self.at_ms), &request.body(body.into()).unwrap());
        (response.status().as_u16(), response.headers().clone(), response.body().clone())
    }

    fn get(&mut self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.send("GET", path, &[("authorization", "Bearer t")], "");
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn delete(&mut self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.send("DELETE", path, &[("authorization", "Bearer t")], "");
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let headers = [("authorization", "Bearer t"), ("content-type", "application/json")];
        let (status, _, body) = self.send("POST", path, &headers, body.to_string());
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// Imports a file for some lists.
    fn import(&mut self, name: &str, lists: &[ListId], file: &[u8]) -> (u16, Value) {
        let lists: Vec<String> = lists.iter().map(ToString::to_string).collect();
        self.import_form(name, &lists.join(","), file)
    }

    fn import_form(&mut self, name: &str, lists: &str, file: &[u8]) -> (u16, Value) {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: text/csv\r\n\r\n"
        );
        let tail = format!("\r\n--b\r\nContent-Disposition: form-data; name=\"list_ids\"\r\n\r\n{lists}\r\n--b--\r\n");
        let body = [head.as_bytes(), file, tail.as_bytes()].concat();
        let headers = [("authorization", "Bearer t"), ("content-type", "multipart/form-data; boundary=b")];
        let (status, _, body) = self.send("POST", "/v3/activities/contacts_file_import", &headers, body);
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// The activity of an answer to a POST, long after.
    fn ended(&mut self, queued: &Value) -> Value {
        self.at_ms += 3_600_000;
        let (status, activity) = self.get(&format!("/v3/activities/{}", queued["activity_id"].as_str().unwrap()));
        assert_eq!(status, 200);
        activity
    }

    /// Puts a contact on lists and gives its id.
    fn plant(&mut self, address: &str, status: ContactStatus, lists: &[ListId]) -> String {
        self.vendor.advance(BASE.plus_ms(self.at_ms));
        assert!(self.vendor.plant_contact(&PlantedContact { address: Text::new(address), status, lists: lists.to_vec() }));
        let (_, found) = self.get(&format!("/v3/contacts?status=all&email={}", address.replace('+', "%2B")));
        found["contacts"][0]["contact_id"].as_str().unwrap().to_owned()
    }
}

/// A client of an account with one list.
fn with_list(config: VendorConfig) -> (Client, ListId) {
    let mut client = Client::unlimited(config);
    let list = client.vendor.plant_list("L");
    (client, list)
}

/// The key and message of an error of the contacts services: an array of one.
fn service_error(body: &Value) -> (&str, &str) {
    let [error] = &body.as_array().unwrap()[..] else { panic!("{body}") };
    (error["error_key"].as_str().unwrap(), error["error_message"].as_str().unwrap())
}

/// The addresses of a page of contacts.
fn addresses(page: &Value) -> Vec<&str> {
    page["contacts"].as_array().unwrap().iter().map(|contact| contact["email_address"]["address"].as_str().unwrap()).collect()
}

/// Follows `_links.next` from a page on; what each page has under `key`.
fn pages(client: &mut Client, first: &str, key: &str) -> Vec<Vec<Value>> {
    let mut found = Vec::new();
    let mut path = first.to_owned();
    loop {
        let (status, page) = client.get(&path);
        assert_eq!(status, 200, "{path}: {page}");
        found.push(page[key].as_array().unwrap().clone());
        match page["_links"]["next"]["href"].as_str() {
            Some(next) => next.clone_into(&mut path),
            None => return found,
        }
    }
}

#[test]
fn errors_have_the_shape_of_whoever_answers() {
    let mut client = Client::unlimited(VendorConfig { access_token: Some("right".to_owned()), ..VendorConfig::default() });
    let gateway = json!({ "error_key": "unauthorized", "error_message": "Unauthorized" });
    for header in ["Bearer wrong", "Basic cmlnaHQ6", "Bearer ", ""] {
        let (status, headers, body) = client.send("GET", "/v3/contacts", &[("authorization", header)], "");
        assert_eq!((status, serde_json::from_slice::<Value>(&body).unwrap()), (401, gateway.clone()), "{header:?}");
        assert_eq!(headers["date"], "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(headers["content-type"], "application/json");
        assert!(!headers.contains_key("retry-after"), "none is documented");
    }
    let id = "04fe9a97-a579-43c5-bb1a-58ed29bf0a6a";
    for (method, path, media, body, status, key) in [
        ("GET", "/v3/nothing".to_owned(), "", "", 404, "contacts.api.not_found"),
        ("GET", format!("/v3/contact_lists/{id}"), "", "", 404, "contacts.api.not_found"),
        ("GET", format!("/v3/contacts/{id}"), "", "", 404, "contacts.api.not_found"),
        ("GET", "/v3/contacts/7".to_owned(), "", "", 404, "contacts.api.not_found"),
        ("GET", format!("/v3/activities/{id}"), "", "", 404, "contacts.api.not_found"),
        ("DELETE", "/v3/contacts".to_owned(), "", "", 405, "contacts.api.method_not_allowed"),
        ("GET", "/v3/activities/contacts_file_import".to_owned(), "", "", 404, "contacts.api.not_found"),
        ("POST", "/v3/contact_lists".to_owned(), "text/plain", "{}", 415, "contacts.api.unsupported_media_type"),
        ("POST", "/v3/contact_lists".to_owned(), "application/json", "{", 400, "contacts.api.validation.error"),
        ("GET", "/v3/contacts?color=red".to_owned(), "", "", 400, "contacts.api.validation.error"),
    ] {
        let headers = [("authorization", "Bearer right"), ("content-type", media)];
        let (found, _, body) = client.send(method, &path, &headers, body);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((found, service_error(&body).0), (status, key), "{method} {path}: {body}");
    }
}
