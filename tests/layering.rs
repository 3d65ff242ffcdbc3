//! Which module may name which: the documentation of record of the rooms.
//!
//! Scans `crate::` paths in `src/`. A new edge belongs in the table below, with a reason one can defend.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// module → modules it may name. `lib.rs` and `main.rs` are wiring and stand outside.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("config", &["model"]),
    ("lifecycle", &[]),
    ("telemetry", &[]),
    ("proto", &[]),
    ("registry", &["model"]),
    // Snapshots are the input of every view.
    ("view", &["model", "registry"]),
    // `proto`: snapshots on disk.
    ("ingest", &["model", "config", "registry", "lifecycle", "proto"]),
    ("trust", &["model", "config"]),
    ("xds", &["model", "registry", "view", "trust", "lifecycle", "proto", "telemetry"]),
    // Read only.
    ("admin", &["model", "config", "registry", "view", "ingest", "trust", "xds", "lifecycle", "telemetry"]),
    (
        "app",
        &[
            "model",
            "config",
            "lifecycle",
            "telemetry",
            "registry",
            "view",
            "ingest",
            "trust",
            "xds",
            "admin",
            "proto",
        ],
    ),
    // `trust` and `app`: the lab only, which plants a CA and runs control planes.
    ("sim", &["model", "proto", "app", "trust"]),
    (
        "cli",
        &[
            "model",
            "config",
            "lifecycle",
            "telemetry",
            "registry",
            "view",
            "ingest",
            "trust",
            "xds",
            "admin",
            "app",
            "sim",
            "proto",
        ],
    ),
];

/// Crates whose types stop at a boundary: crate → modules that may name it.
const CRATES: &[(&str, &[&str])] = &[
    ("kube", &["ingest", "sim"]),
    ("k8s_openapi", &["ingest", "sim"]),
    ("tonic", &["xds", "trust", "proto", "app"]),
    ("envoy_types", &["xds", "trust", "proto", "app"]),
];

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The code of a file without comments and without its test modules' tail.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("source is UTF-8");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The first path segments after `root::`, groups included: `crate::{a::B, c}` names `a` and `c`.
fn named(code: &str, root: &str) -> BTreeSet<String> {
    let word =
        |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(root) {
        let preceded =
            code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        if preceded {
            continue;
        }
        let rest = &code[at + root.len()..];
        match rest.strip_prefix('{') {
            None => {
                names.insert(word(rest));
            }
            Some(group) => {
                let mut depth = 0_usize;
                let mut start = true;
                for (index, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            names.insert(word(&group[index..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

fn module_of<'a>(path: &'a Path, src: &Path) -> &'a str {
    let relative = path.strip_prefix(src).expect("inside src");
    let first = relative.iter().next().and_then(|part| part.to_str()).expect("a name");
    first.strip_suffix(".rs").unwrap_or(first)
}

#[test]
fn every_module_names_only_what_the_table_allows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let known: BTreeSet<&str> = MAY_NAME.iter().map(|(module, _)| *module).collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in &files {
        let module = module_of(file, &src);
        if matches!(module, "lib" | "main") {
            continue;
        }
        seen.insert(module.to_owned());
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module {module} is not in the table", file.display()));
            continue;
        };
        let code = code(file);
        for name in named(&code, "crate::") {
            if known.contains(name.as_str()) && name != module && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{}: {module} may not name crate::{name}", file.display()));
            }
        }
        for (dependency, allowed) in CRATES {
            let root = format!("{dependency}::");
            if !allowed.contains(&module) && !named(&code, &root).is_empty() {
                wrong.push(format!("{}: {module} may not name {dependency}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        seen.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        known,
        "the table lists every module"
    );
}

#[test]
fn the_scan_sees_paths_and_groups() {
    let names = named("use crate::{a::{B, C}, d};\nlet x = crate::e::F; mycrate::g; crate :: h", "crate::");
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "d", "e"]);
}

/// Where the wall clock is read, and what for (K-41). Everything else goes by monotonic clocks, so that neither
/// skew between machines nor a clock that is set changes what is served.
const WALL_CLOCK: &[(&str, &str)] = &[
    ("admin/debug/clusters.rs", "when credentials expire"),
    ("admin/debug/proxies.rs", "times shown"),
    ("admin/scrape.rs", "when certificates and tokens expire"),
    ("app/builder.rs", "certificates"),
    ("ingest/client.rs", "when credentials expire"),
    ("ingest/client/exec.rs", "when credentials expire"),
    ("ingest/client/traffic.rs", "times shown"),
    ("ingest/cluster/status.rs", "when credentials expire"),
    ("ingest/snapshot/keeper.rs", "the age of snapshots"),
    ("model/moment.rs", "times shown"),
    ("xds/hub.rs", "times shown"),
    ("xds/stream.rs", "certificates, and times shown"),
];

#[test]
fn k41_the_wall_clock_is_read_for_certificates_tokens_snapshots_and_the_eye_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut found = BTreeSet::new();
    for file in &files {
        let name = file.strip_prefix(&src).expect("inside src").to_str().expect("UTF-8");
        // The lab shows times of its own; tests may use any clock.
        let aside = ["sim/", "cli/"].iter().any(|room| name.starts_with(room)) || name.contains("tests");
        let reads = ["SystemTime::now(", "Timestamp::now(", "Zoned::now(", "now_utc("];
        if !aside && reads.iter().any(|call| code(file).contains(call)) {
            found.insert(name.to_owned());
        }
    }
    let known: BTreeSet<String> = WALL_CLOCK.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(found, known, "whoever reads the wall clock is in the table, with the reason");
}
