//! The model of the vendor behind a real socket.

use bytes::Bytes;
use listkeeper::{
    shell::simulator_host::{SimulatorHost, wall},
    simulator::constant_contact::{Vendor, VendorConfig},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn call(host: &SimulatorHost, method: &str, path: &str, media: &str, body: &str) -> String {
    call_as("Bearer t", host, method, path, media, body).await
}

#[expect(clippy::unwrap_used, reason = "a test whose socket fails has failed")]
async fn call_as(who: &str, host: &SimulatorHost, method: &str, path: &str, media: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(host.address()).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {who}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&Bytes::from(head + body)).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_file_over_a_socket_puts_contacts_on_a_list() {
    let config = VendorConfig { instant: true, ..VendorConfig::default() };
    let host = SimulatorHost::start("127.0.0.1:0".parse().unwrap(), Vendor::new(config, wall())).await.unwrap();
    let list = host.vendor().lock().plant_list("Members");
    let body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"list_ids\"\r\n\r\n{list}\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; \
         filename=\"one.csv\"\r\nContent-Type: text/csv\r\n\r\nemail,first_name\r\nb@example.com,B\r\nA@example.com,A\r\n\r\n--b--\r\n"
    );
    let answer = call(&host, "POST", "/v3/activities/contacts_file_import", "multipart/form-data; boundary=b", &body).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let planted = r#"[{"email":"c@example.com","status":"unsubscribed","lists":["Members"]}]"#;
    assert!(call(&host, "POST", "/_simulator/contacts", "application/json", planted).await.starts_with("HTTP/1.1 201"));
    let members = call(&host, "GET", &format!("/_simulator/lists/{list}/members"), "", "").await;
    assert!(members.ends_with(r#"["a@example.com","b@example.com","c@example.com"]"#), "{members}");
    assert!(call(&host, "GET", "/_simulator/report", "", "").await.contains(r#""requests":1"#));
    host.stop().await.unwrap();
}

#[tokio::test]
async fn each_api_key_may_have_an_account_of_its_own() {
    let config = VendorConfig { calls_per_second: Some(1), ..VendorConfig::default() };
    let host = SimulatorHost::start_for_each_key("127.0.0.1:0".parse().unwrap(), config).await.unwrap();
    // A fixed token is a key; one that was issued is its application's.
    let grant = "grant_type=refresh_token&refresh_token=first&client_id=app&client_secret=s";
    let issued = call_as("", &host, "POST", "/oauth2/token", "application/x-www-form-urlencoded", grant).await;
    let (_, body) = issued.split_once("\r\n\r\n").unwrap();
    let issued: serde_json::Value = serde_json::from_str(body).unwrap();
    let issued = format!("Bearer {}", issued["access_token"].as_str().unwrap());
    for who in ["Bearer one", "Bearer two", &issued] {
        let answer = call_as(who, &host, "GET", "/v3/contact_lists", "", "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{who}: a limit of its own: {answer}");
    }
    let made =
        call_as("Bearer one", &host, "POST", "/_simulator/lists?account=one", "application/json", r#"{"name":"Ones"}"#).await;
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    for (account, requests, lists) in [("one", 1, 1), ("two", 1, 0), ("app", 2, 0)] {
        let report = call(&host, "GET", &format!("/_simulator/report?account={account}"), "", "").await;
        let (_, body) = report.split_once("\r\n\r\n").unwrap();
        let report: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&report["requests"], report["lists"].as_array().unwrap().len()), (&requests.into(), lists), "{account}");
    }
    host.stop().await.unwrap();
}
