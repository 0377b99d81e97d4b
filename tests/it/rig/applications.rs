//! Applications, each with a connection and an account of its own, as a configuration names them.

use std::path::Path;

use listkeeper::model::hash::text_hash;

/// An export: name, list, segments.
pub type Export = (&'static str, &'static str, &'static [&'static str]);

/// An application: what it is called everywhere ends with its number.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its API key, which is also what the account is asked for by.
    pub client_id: String,
    /// Where its connection's token lives.
    pub store: Store,
    /// What its connection serves.
    pub exports: Vec<Export>,
}

/// The shard that an application belongs to.
pub fn shard_of(client_id: &str, shards: u32) -> u32 {
    u32::try_from(text_hash(client_id) % u64::from(shards)).expect("less than the shards")
}

/// Where a connection's token lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A file with one token that is never refreshed: the client id.
    Fixed,
    /// A file with a refresh token that serves once.
    Rotating,
}

impl Application {
    /// Writes the secret and the first token.
    pub fn sign_in(&self, folder: &Path) {
        let id = &self.client_id;
        std::fs::write(folder.join("secret"), "s").expect("a file");
        let text = match self.store {
            Store::Fixed => id.clone(),
            Store::Rotating => serde_json::json!({ "client_id": id, "refresh_token": format!("first-{id}") }).to_string(),
        };
        std::fs::write(folder.join(format!("{id}.token")), text).expect("a file");
    }

    /// The access token in use; none before the first refresh.
    pub fn access_token(&self, folder: &Path) -> Option<String> {
        let text = std::fs::read_to_string(folder.join(format!("{}.token", self.client_id))).expect("a file");
        match self.store {
            Store::Fixed => Some(text),
            Store::Rotating => {
                let stored: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                stored["access_token"].as_str().map(ToOwned::to_owned)
            }
        }
    }
}

/// The sections `applications`, `connections` and `exports`.
pub fn sections(applications: &[Application], folder: &Path) -> String {
    let folder = folder.display();
    let (mut keys, mut accounts, mut exports) =
        (String::from("applications:\n"), String::from("connections:\n"), String::from("exports:\n"));
    for (number, Application { client_id, store, exports: served }) in applications.iter().enumerate() {
        let token = match store {
            Store::Fixed => "access_token_file",
            Store::Rotating => "file",
        };
        keys.push_str(&format!(
            "  main-{number}: {{ client_id: {client_id}, client_secret_file: {folder}/secret, refresh_tokens: rotating }}\n"
        ));
        accounts.push_str(&format!(
            "  news-{number}:\n    display_name: Newsletter {number}\n    application: main-{number}\n    \
             token_store: {{ {token}: {folder}/{client_id}.token }}\n    \
             privacy_consent: {{ accepted_by: ana, accepted_at: \"2026-11-20T09:00:00Z\", text: v1 }}\n"
        ));
        // Configurations that follow one another take most of a list off it, and nobody is there to approve of that.
        for (name, list, segments) in served {
            exports.push_str(&format!(
                "  {name}-{number}: {{ connection: news-{number}, list: {{ name: {list}, create: true }}, \
                 segments: [{}], starts: at_once,\n    fields: {{ email: profile.email, first_name: profile.first_name }}, \
                 removals: {{ hold_above_percent: 100 }} }}\n",
                segments.join(", ")
            ));
        }
    }
    keys + &accounts + &exports
}
