//! What an API server notes of the requests it gets.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Everything, once, without bodies. A watch is noted when it begins and when it ends.
const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
                      rules: [{level: Metadata}]\n";

/// The notes of one API server.
pub struct Audit {
    dir: tempfile::TempDir,
}

/// One request.
#[derive(Debug)]
pub struct Request {
    pub user: String,
    pub verb: String,
    pub resource: String,
    pub uri: String,
    pub code: u64,
}

impl Audit {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("policy"), POLICY).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.dir.path(), name)
    }

    /// What makes an API server take notes.
    pub fn flags(&self) -> Vec<String> {
        let (policy, log) = (self.path("policy"), self.path("log"));
        vec![
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", log.display()),
            "--audit-log-mode=blocking-strict".to_owned(),
        ]
    }

    /// What control planes have asked so far. The last line may be being written.
    pub fn requests(&self) -> Vec<Request> {
        let log = std::fs::read_to_string(self.path("log")).unwrap();
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        let notes = complete.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let ours = notes.filter(|note| text(&note["userAgent"]).starts_with("tombolo/"));
        ours.map(|note| Request {
            user: text(&note["user"]["username"]),
            verb: text(&note["verb"]),
            resource: text(&note["objectRef"]["resource"]),
            uri: text(&note["requestURI"]),
            code: note["responseStatus"]["code"].as_u64().unwrap_or_default(),
        })
        .collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
