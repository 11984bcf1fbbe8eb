//! The boards and the rules of `contrib/` ask for what a running server tells: each metric, each label and each value of a
//! label. `tests/dashboards/check.py` has Prometheus itself answer them.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::process::Server;

const SERVICE: &str = "contrib/grafana/onecode-service.json";
const CHAIN: &str = "contrib/grafana/onecode-chain.json";
const RULES: &str = "contrib/prometheus/onecode.rules.yaml";
/// The sections of the manual's page for operators.
const SECTIONS: [&str; 13] = [
    "process-killed",
    "shard-stuck",
    "network-down",
    "firewall",
    "network-loss",
    "disk-full",
    "journal-device",
    "clock-off",
    "certificate-expired",
    "key-revoked",
    "restore",
    "ten-times-the-crowd",
    "fifteen-hours",
];
/// What Prometheus adds to each series (its documentation, "Jobs and instances").
const OF_PROMETHEUS: [&str; 2] = ["job", "instance"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn board(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap()
}

/// All queries of a board, each with its panel.
fn queries(board: &Value) -> Vec<(String, String)> {
    let annotations = board["annotations"]["list"].as_array().unwrap();
    let mut queries: Vec<_> = annotations.iter().map(|note| (text(&note["name"]), text(&note["expr"]))).collect();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    queries
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The rules without their comments and annotations, and the names that they record.
fn rules() -> (String, BTreeSet<String>) {
    let kept =
        |line: &&str| !["#", "summary:", "runbook_url:"].iter().any(|start| line.trim_start().starts_with(start));
    let text: String = read(RULES).lines().filter(kept).map(|line| format!("{line}\n")).collect();
    let records =
        text.lines().filter_map(|line| line.trim_start().strip_prefix("- record: ")).map(str::to_owned).collect();
    (text, records)
}

/// The metrics that a text names, each with its matchers: label, and the values that it asks for.
/// Each metric with its labels and their values.
type Metrics = Vec<(String, Vec<(String, Vec<String>)>)>;

fn metrics(text: &str) -> Metrics {
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == ':';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_name) {
        let (before, from) = (rest[..start].chars().last(), &rest[start..]);
        let end = from.find(|character| !is_name(character)).unwrap_or(from.len());
        let (name, after) = from.split_at(end);
        let is_metric = ["onecode_", "onecode:", "process_", "node_"].iter().any(|room| name.starts_with(room));
        if is_metric && before != Some('"') {
            let matchers = after.strip_prefix('{').and_then(|inside| inside.split_once('}')).map(|(inside, _)| inside);
            found.push((name.to_owned(), matchers.map_or(Vec::new(), split_matchers)));
        }
        rest = after;
    }
    found
}

/// `a="b", c=~"d|e"`; a value that is a variable, or that excludes, asks for none.
fn split_matchers(inside: &str) -> Vec<(String, Vec<String>)> {
    let matchers = inside.split(", ").map(|matcher| {
        let operator = matcher.find(['=', '!']).unwrap_or_else(|| panic!("no matcher: {matcher}"));
        let (label, value) = matcher.split_at(operator);
        let asks = value.starts_with('=') && !value.contains('$');
        let values = value.trim_start_matches(['=', '~', '!']).trim_matches('"').split('|').map(str::to_owned);
        (label.to_owned(), if asks { values.collect() } else { Vec::new() })
    });
    matchers.collect()
}

type Exposed = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What a server tells: names, their labels, the values of these.
fn exposed() -> Exposed {
    let server = Server::demo();
    let answer = server.ask_admin("/metrics");
    let mut exposed = Exposed::new();
    for line in answer.text().lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let known = exposed.entry(name.to_owned()).or_default();
        for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').unwrap();
            known.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
    exposed
}

/// What a recorded series has of its labels is what it was summed by.
fn labels_of_record(rules: &str, record: &str) -> BTreeSet<String> {
    let (_, rule) = rules.split_once(&format!("- record: {record}\n")).unwrap();
    let rule = rule.split("- record:").next().unwrap();
    let (_, by) = rule.split_once("by (").unwrap();
    by.split(')').next().unwrap().split(", ").map(str::to_owned).collect()
}

#[test]
fn each_query_asks_for_what_a_server_tells() {
    let (exposed, (rules, records)) = (exposed(), rules());
    let mut asked = vec![("the rules".to_owned(), rules.clone())];
    for path in [SERVICE, CHAIN] {
        asked.extend(queries(&board(path)).into_iter().map(|(panel, query)| (format!("{path}, {panel}"), query)));
    }
    let (mut findings, mut used) = (Vec::new(), BTreeSet::new());
    for (place, query) in &asked {
        for (name, matchers) in metrics(query).into_iter().filter(|(name, _)| !name.starts_with("node_")) {
            used.insert(name.clone());
            if records.contains(&name) {
                let labels = labels_of_record(&rules, &name);
                let unknown = matchers.iter().filter(|(label, _)| !labels.contains(label));
                findings.extend(unknown.map(|(label, _)| format!("{place}: {name} has no label {label}")));
                continue;
            }
            let Some(labels) = exposed.get(&name) else {
                findings.push(format!("{place}: no server tells {name}"));
                continue;
            };
            for (label, values) in matchers.iter().filter(|(label, _)| !OF_PROMETHEUS.contains(&&**label)) {
                let known = labels.get(label);
                let unknown = values.iter().filter(|value| !known.is_some_and(|known| known.contains(*value)));
                findings.extend(unknown.map(|value| format!("{place}: no {name} with {label}=\"{value}\"")));
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    // And the other way round: what a server tells is on a board or in a rule.
    let left_out: Vec<_> = exposed.keys().filter(|name| !used.contains(*name)).collect();
    assert!(left_out.is_empty(), "on no board: {left_out:?}");
    assert!(used.len() > 60 && asked.len() > 80);
}

#[test]
fn values_of_labels_of_records_are_those_of_the_server() {
    let exposed = exposed();
    let sources =
        [("route", "onecode_requests_total"), ("result", "onecode_requests_total"), ("by", "onecode_shed_total")];
    let mut checked = 0;
    for (name, matchers) in metrics(&rules().0).into_iter().filter(|(name, _)| name.starts_with("onecode:")) {
        for (label, values) in matchers {
            let Some((_, source)) = sources.iter().find(|(known, _)| *known == label) else { continue };
            for value in values {
                assert!(exposed[*source][&label].contains(&value), "{name}: {label}={value}");
                checked += 1;
            }
        }
    }
    assert!(checked > 10);
}

#[test]
fn each_alert_leads_to_its_section_of_the_manual() {
    let rules = read(RULES);
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 20);
    let mut sections = BTreeSet::new();
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        assert!(alert.contains("severity: critical") || alert.contains("severity: warning"), "{name}");
        assert!(alert.contains("summary: "), "{name}");
        let (_, link) = alert.split_once("runbook_url: \"{{ $externalLabels.manual }}/manual/operators#").unwrap();
        let section = link.split('"').next().unwrap();
        assert!(SECTIONS.contains(&section), "{name}: {section}");
        sections.insert(section);
    }
    let without: Vec<_> = SECTIONS.iter().filter(|section| !sections.contains(*section)).collect();
    assert!(without.is_empty(), "no alert leads to {without:?}");
}

#[test]
fn boards_are_whole() {
    for (path, uid) in [(SERVICE, "onecode-service"), (CHAIN, "onecode-chain")] {
        let board = board(path);
        assert_eq!(board["uid"], uid);
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in board["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{path}: {}", panel["id"]);
            let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(side("x") + side("w") <= 24, "{path}: {}", panel["title"]);
            for x in side("x")..side("x") + side("w") {
                for y in side("y")..side("y") + side("h") {
                    assert!(taken.insert((x, y)), "{path}: {} lies over another", panel["title"]);
                }
            }
            if !["row", "text"].contains(&panel["type"].as_str().unwrap()) {
                assert!(!panel["targets"].as_array().unwrap().is_empty(), "{path}: {}", panel["title"]);
                assert_eq!(panel["datasource"]["uid"], "${datasource}");
            }
        }
        let variables: Vec<_> =
            board["templating"]["list"].as_array().unwrap().iter().map(|it| text(&it["name"])).collect();
        for (panel, query) in queries(&board) {
            for used in query.split('$').skip(1).map(|rest| rest.split(['"', ']']).next().unwrap()) {
                assert!(used == "__rate_interval" || variables.iter().any(|name| name == used), "{panel}: ${used}");
            }
        }
    }
    // Whose metrics the chain is made of is said on it.
    assert!(board(CHAIN)["panels"][0]["options"]["content"].as_str().unwrap().contains("node_exporter"));
}
