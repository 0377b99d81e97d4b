//! The token endpoint.

use super::*;

fn config(rotating: bool) -> VendorConfig {
    let client =
        OauthClient { client_id: "key".to_owned(), client_secret: "se:cret".to_owned(), refresh_token: "first".to_owned() };
    VendorConfig { oauth_clients: vec![client], rotating_refresh_tokens: rotating, ..VendorConfig::default() }
}

/// `base64("key:se%3Acret")`: each half form-encoded, as OAuth 2 has it.
const BASIC: &str = "Basic a2V5OnNlJTNBY3JldA==";

fn refresh(client: &mut Client, token: &str) -> (u16, Value) {
    let form = format!("grant_type=refresh_token&refresh_token={token}");
    let (status, _, body) = client.send("POST", "/oauth2/token", &[("authorization", BASIC)], form);
    (status, serde_json::from_slice(&body).unwrap())
}

fn dead() -> (u16, Value) {
    (400, json!({ "error": "invalid_grant", "error_description": "The refresh token is invalid or expired." }))
}

#[test]
fn a_rotating_refresh_token_serves_once() {
    let mut client = Client::unlimited(config(true));
    let (status, first) = refresh(&mut client, "first");
    assert_eq!(status, 200);
    let shown: Vec<(&str, &Value)> = ["token_type", "expires_in", "scope"].map(|name| (name, &first[name])).to_vec();
    let expected = [json!("Bearer"), json!(86_400), json!("contact_data offline_access")];
    assert_eq!(shown.iter().map(|(_, value)| (*value).clone()).collect::<Vec<_>>(), expected);
    assert_eq!(refresh(&mut client, "first"), dead(), "used up");
    let next = first["refresh_token"].as_str().unwrap().to_owned();
    let (status, second) = refresh(&mut client, &next);
    assert_eq!(status, 200);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_ne!(second["access_token"], first["access_token"]);
    assert_eq!(refresh(&mut client, &next), dead(), "used up as well");
    // Not documented either way: the access token of before goes on to serve.
    for answer in [&first, &second] {
        let bearer = format!("Bearer {}", answer["access_token"].as_str().unwrap());
        assert_eq!(client.send("GET", "/v3/contacts", &[("authorization", &bearer)], "").0, 200);
    }
}

#[test]
fn a_long_lived_refresh_token_stays() {
    let mut client = Client::unlimited(config(false));
    for _ in 0..3 {
        let (status, answer) = refresh(&mut client, "first");
        assert_eq!((status, &answer["refresh_token"]), (200, &json!("first")));
    }
}

#[test]
fn a_refresh_token_dies_when_it_is_not_used_for_180_days() {
    const DAY_MS: i64 = 86_400_000;
    for rotating in [true, false] {
        let mut client = Client::unlimited(config(rotating));
        client.at_ms = 180 * DAY_MS - 1;
        let (status, answer) = refresh(&mut client, "first");
        assert_eq!(status, 200);
        let next = answer["refresh_token"].as_str().unwrap().to_owned();
        client.at_ms += 180 * DAY_MS;
        assert_eq!(refresh(&mut client, &next), dead());
    }
}

#[test]
fn an_access_token_serves_for_a_day() {
    let mut client = Client::unlimited(VendorConfig { access_token: Some("other".to_owned()), ..config(true) });
    let (_, answer) = refresh(&mut client, "first");
    let bearer = format!("Bearer {}", answer["access_token"].as_str().unwrap());
    for (at_ms, expected) in [(0, 200), (86_399_999, 200), (86_400_000, 401)] {
        client.at_ms = at_ms;
        assert_eq!(client.send("GET", "/v3/contacts", &[("authorization", &bearer)], "").0, expected, "at {at_ms} ms");
    }
}

#[test]
fn the_endpoint_takes_one_request_a_second_and_answers_as_oauth_does() {
    let mut client = Client::new(config(true));
    let good = "grant_type=refresh_token&refresh_token=first";
    // Headers, query, form, status, error; each a second after the one before.
    let none: &[(&str, &str)] = &[];
    let table = [
        (none, "", good, 401, "invalid_client"),
        (&[("authorization", "Basic a2V5Ondyb25n")], "", good, 401, "invalid_client"),
        (&[], "", "grant_type=refresh_token&refresh_token=first&client_id=key&client_secret=wrong", 401, "invalid_client"),
        (&[("authorization", BASIC)], "", "grant_type=client_credentials", 400, "unsupported_grant_type"),
        (&[("authorization", BASIC)], "", "grant_type=refresh_token", 400, "invalid_request"),
        (&[("authorization", BASIC)], "", "grant_type=refresh_token&refresh_token=stolen", 400, "invalid_grant"),
        (&[("authorization", BASIC)], "?grant_type=refresh_token&refresh_token=first", "", 200, ""),
        (&[], "", "grant_type=refresh_token&refresh_token=first&client_id=key&client_secret=se:cret", 400, "invalid_grant"),
    ];
    for (second, (headers, query, form, expected, error)) in (0..).zip(table) {
        client.at_ms = second * 1_000;
        let (status, _, body) = client.send("POST", &format!("/oauth2/token{query}"), headers, form);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, body["error"].as_str().unwrap_or_default()), (expected, error), "{form} {query}");
    }
    client.at_ms += 999;
    let (status, _, body) = client.send("POST", "/oauth2/token", &[("authorization", BASIC)], good);
    assert_eq!((status, body), (429, Bytes::from("{\"error_key\":\"throttled\",\"error_message\":\"Too Many Requests\"}\n")));
    let report = client.vendor.report();
    assert_eq!(report.violations.iter().map(|violation| violation.rule).collect::<Vec<_>>(), ["token_calls_per_second"]);
    assert!(report.requests_by_day.is_empty(), "the endpoint spends nothing of the day");
    assert_eq!(report.requests_by_kind["token"], 9);
}
