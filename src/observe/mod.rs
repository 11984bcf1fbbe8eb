//! Reads every room's counters and the kernel's, for the admin listener; no room knows it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam::atomic::AtomicCell;
use crossbeam::utils::CachePadded;
use procfs::net::DeviceStatus;
use procfs::process::Process;
use procfs::{Current as _, MemoryPressure};
use serde_json::{Value, json};
use strum::VariantArray;

use crate::admission::{Refuser, Shared};
use crate::journal::{self, Shut};
use crate::registry::table::Table;
use crate::service::counters::{COUNTS, Counter, Counters, EndReason, RESULTS};
use crate::service::{Overview, Route};
use crate::words::Now;

/// What the journal's thread counts, and the fold.
#[derive(Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Folding {
    pub journal: Arc<journal::Counters>,
    /// Snapshots written.
    pub folds: AtomicCell<u64>,
    /// Attempts that came to nothing.
    pub failures: AtomicCell<u64>,
    /// The last record that the snapshot is known to have.
    pub folded_to: AtomicCell<u64>,
    /// When the snapshot was made.
    pub snapshot_unix_ms: AtomicCell<u64>,
    pub disk_bytes: AtomicCell<u64>,
    /// What is refused for want of space.
    pub shut: AtomicCell<Shut>,
}

/// What one process shows of itself.
#[allow(missing_docs, reason = "the names say it")]
pub struct Observer {
    /// Those of all shards, in the order of their numbers.
    pub counters: Vec<Arc<CachePadded<Counters>>>,
    pub registry: Arc<Table>,
    pub folding: Arc<Folding>,
    pub driver: &'static str,
    pub started_unix_ms: u64,
    /// Of the certificate that ends first; 0 without TLS.
    pub certificate_expires_unix_s: Arc<AtomicCell<u64>>,
    pub reloads_refused: Arc<AtomicCell<u64>>,
    pub shards_heard_unix_s: AtomicCell<u64>,
    pub shared: Arc<Shared>,
    /// The interface that the public listener sends through.
    pub interface: String,
}

type Family = (&'static str, &'static str, &'static str, Vec<(String, f64)>);
type Figure = (&'static str, &'static str, fn(&Observer, Now) -> f64);

/// All else that is one number: name, help, which. Those of the host's chain, from the wire to the accept queue, come first.
const FIGURES: [Figure; 43] = [
    ("interface_sent_bytes_total", "All that the public listener's link sent.", |all, _| all.link(|it| it.sent_bytes)),
    ("interface_received_bytes_total", "All that it received.", |all, _| all.link(|it| it.recv_bytes)),
    ("interface_dropped_packets_total", "What it dropped.", |all, _| all.link(|it| it.recv_drop + it.sent_drop)),
    ("interface_bits_per_second", "Its speed; 0 where the kernel knows none.", |all, _| {
        number(&format!("/sys/class/net/{}/speed", all.interface)) * 1e6
    }),
    ("softnet_dropped_packets_total", "Packets that found the queue of a CPU full.", |_, _| softnet(1)),
    ("softnet_squeezes_total", "Turns of a CPU that did not take all packets.", |_, _| softnet(2)),
    ("conntrack_entries", "Connections that the firewall tracks.", |_, _| number(&format!("{CONNTRACK}count"))),
    ("conntrack_entries_max", "How many it can; 0: it tracks none.", |_, _| number(&format!("{CONNTRACK}max"))),
    ("syn_drops_total", "SYNs that found their queue full.", |_, _| counted("netstat", "TCPReqQFullDrop")),
    ("syn_cookies_total", "SYNs answered by a cookie for it.", |_, _| counted("netstat", "TCPReqQFullDoCookies")),
    ("listen_overflows_total", "Of those to be accepted, too many.", |_, _| counted("netstat", "ListenOverflows")),
    ("tcp_retransmitted_segments_total", "TCP segments sent again.", |_, _| counted("snmp", "RetransSegs")),
    ("memory_pressure_ratio", "Share of the last 10 s in which a task waited for memory.", |_, _| {
        MemoryPressure::current().map_or(0.0, |pressure| f64::from(pressure.some.avg10) / 100.0)
    }),
    ("egress_budget_bytes_per_second", "What may be sent; 0: no bound.", |all, _| all.shared.egress.bytes_per_s as f64),
    ("brownout_level", "How many times windows are doubled.", |all, now| {
        all.shared.brownout.level(now.unix_s()).into()
    }),
    ("residents", "Residents in the registry.", |all, _| all.registry.residents() as f64),
    ("residents_test", "Those of them that are marked as test.", |all, _| all.registry.test_len() as f64),
    ("residents_used", "Places taken, by those removed, too.", |all, _| all.registry.used() as f64),
    ("residents_max", "Residents for whom there is room.", |all, _| all.registry.capacity as f64),
    ("journal_records_total", "Records on disk, by this process.", |all, _| of(&all.journal().records)),
    ("journal_batches_total", "Batches that they were written in.", |all, _| of(&all.journal().batches)),
    ("journal_bytes_total", "Bytes written, padding included.", |all, _| of(&all.journal().bytes)),
    ("journal_syncs_total", "Syncs asked of the disk.", |all, _| of(&all.journal().syncs)),
    ("journal_sync_seconds_total", "Time that they took.", |all, _| of(&all.journal().sync_us) / 1e6),
    ("journal_sync_seconds_max", "The longest of them.", |all, _| of(&all.journal().sync_us_max) / 1e6),
    ("journal_segments_total", "Segments begun.", |all, _| of(&all.journal().segments)),
    ("journal_durable_to", "The last record on disk.", |all, _| of(&all.journal().durable_to)),
    ("journal_folded_to", "The last in this process's last snapshot.", |all, _| of(&all.folding.folded_to)),
    ("journal_folds_total", "Snapshots written.", |all, _| of(&all.folding.folds)),
    ("journal_fold_failures_total", "Snapshots that failed.", |all, _| of(&all.folding.failures)),
    ("journal_disk_bytes", "The journal's files.", |all, _| of(&all.folding.disk_bytes)),
    ("journal_full", "1 while writes are refused: journal.disk_bytes_max.", |all, _| all.is_shut(Shut::ToAll)),
    ("journal_full_for_scans", "1 while scans are refused.", |all, _| all.is_shut(Shut::ToScans)),
    ("journal_failed", "1 once a write or a sync has failed.", |all, _| all.journal().failed.load().into()),
    ("journal_waiting_seconds", "How long the oldest record not on disk has waited.", Observer::waited_s),
    ("snapshot_unix_seconds", "When the last one was made.", |all, _| of(&all.folding.snapshot_unix_ms) / 1e3),
    ("reloads_refused_total", "SIGHUPs that changed nothing.", |all, _| of(&all.reloads_refused)),
    ("tls_certificate_expires_seconds", "When the first one ends; 0 without any.", |all, _| {
        of(&all.certificate_expires_unix_s)
    }),
    ("shards_heard_seconds", "When all shards last answered.", |all, _| of(&all.shards_heard_unix_s)),
    ("process_cpu_seconds_total", "CPU time of all threads.", |_, _| threads().map(|(_, [ran, _])| ran).sum()),
    ("process_resident_memory_bytes", "Memory in use, from /proc/self/statm.", |_, _| {
        Process::myself().and_then(|it| it.statm()).map_or(0, |it| it.resident * procfs::page_size()) as f64
    }),
    ("process_start_time_seconds", "When it started, since 1970.", |all, _| all.started_unix_ms as f64 / 1e3),
    ("process_clock_seconds", "The process's clock, since 1970.", |_, now| now.unix_ms as f64 / 1e3),
];

fn of(figure: &AtomicCell<u64>) -> f64 {
    figure.load() as f64
}

impl Observer {
    fn journal(&self) -> &journal::Counters {
        &self.folding.journal
    }

    fn is_shut(&self, least: Shut) -> f64 {
        f64::from(self.folding.shut.load() >= least)
    }

    /// How long the oldest record that is not on disk has waited. The clocks of shards begin at the start of each.
    fn waited_s(&self, now: Now) -> f64 {
        let since = self.counters.iter().map(|counters| counters.journal_waits_since_ms.get());
        since.filter(|since| *since > 0).min().map_or(0.0, |since| now.mono_ms().saturating_sub(since) as f64 / 1e3)
    }

    fn sum(&self, of: impl Fn(&Counters) -> &Counter) -> u64 {
        self.counters.iter().map(|counters| of(counters).get()).sum()
    }

    fn answers(&self, route: Route, result: usize) -> u64 {
        self.sum(|counters| &counters.answers[route as usize][result])
    }

    fn link(&self, of: impl Fn(&DeviceStatus) -> u64) -> f64 {
        procfs::net::dev_status().ok().and_then(|all| all.get(&self.interface).map(of)).unwrap_or(0) as f64
    }

    /// All figures without labels: name without `onecode_`, help, value.
    fn figures(&self, now: Now) -> impl Iterator<Item = (String, &'static str, f64)> {
        let count = |(name, help, which): &(&str, &'static str, fn(&Counters) -> &Counter)| {
            (format!("{name}_total"), *help, self.sum(which) as f64)
        };
        let figure = move |(name, help, which): Figure| (name.to_owned(), help, which(self, now));
        COUNTS.iter().map(count).chain(FIGURES.into_iter().map(figure))
    }

    /// All with one label: name without `onecode_`, help, label, and the value for each of its values.
    fn families(&self) -> [Family; 5] {
        let name = |label: &'static str| label.to_owned();
        let open = self.counters.iter().enumerate().map(|(shard, all)| (shard.to_string(), all.open.get() as f64));
        let ended = EndReason::VARIANTS
            .iter()
            .map(|reason| (name(reason.into()), self.sum(|counters| &counters.ended[*reason as usize]) as f64));
        let shed = Refuser::VARIANTS
            .iter()
            .map(|by| (name(by.into()), self.sum(|counters| &counters.shed[*by as usize]) as f64));
        let (ran, waited) = threads().map(|(name, [ran, waited])| ((name.clone(), ran), (name, waited))).unzip();
        [
            ("connections_open", "Connections open now.", "shard", open.collect()),
            ("connections_ended_total", "Connections ended.", "reason", ended.collect()),
            ("shed_total", "Requests refused or dropped under load.", "by", shed.collect()),
            ("thread_cpu_seconds_total", "Time that a thread ran.", "thread", ran),
            ("thread_wait_seconds_total", "Time that it waited for a CPU.", "thread", waited),
        ]
    }
}

impl Overview for Observer {
    fn metrics(&self, now: Now) -> Bytes {
        let mut text = String::with_capacity(16 * 1_024);
        describe(&mut text, "build_info", "Always 1; the version and the driver that runs.");
        let version = env!("CARGO_PKG_VERSION");
        text += &format!("onecode_build_info{{version=\"{version}\",driver=\"{}\"}} 1\n", self.driver);
        describe(&mut text, "requests_total", "Answers, by route and by the hundreds of the status.");
        for route in Route::VARIANTS {
            for (index, result) in RESULTS.iter().enumerate() {
                let (name, count) = (<&str>::from(route), self.answers(*route, index));
                text += &format!("onecode_requests_total{{route=\"{name}\",result=\"{result}\"}} {count}\n");
            }
        }
        for (name, help, label, values) in self.families() {
            describe(&mut text, name, help);
            for (of, value) in values {
                text += &format!("onecode_{name}{{{label}=\"{of}\"}} {value}\n");
            }
        }
        for (name, help, value) in self.figures(now) {
            let name = describe(&mut text, &name, help);
            text += &format!("{name} {value}\n");
        }
        Bytes::from(text)
    }

    /// The same by the names without `onecode_`; `connections_open` is a list.
    fn status(&self, now: Now) -> Bytes {
        let answers = Route::VARIANTS.iter().map(|route| {
            let counts = RESULTS.iter().enumerate().map(|(index, result)| (*result, self.answers(*route, index)));
            (<&str>::from(route), counts.collect::<Value>())
        });
        let mut document = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "driver": self.driver,
            "interface": self.interface,
            "requests": answers.collect::<Value>(),
        });
        for (name, _, label, values) in self.families() {
            document[name] = match label {
                "shard" => values.into_iter().map(|(_, value)| shown(value)).collect(),
                _ => values.into_iter().map(|(of, value)| (of, shown(value))).collect(),
            };
        }
        for (name, _, value) in self.figures(now) {
            document[name] = shown(value);
        }
        Bytes::from(document.to_string())
    }
}

/// A whole number as such.
fn shown(value: f64) -> Value {
    if value.fract() == 0.0 { json!(value as u64) } else { json!(value) }
}

/// Says what a metric is, and how it is called.
fn describe(text: &mut String, name: &str, help: &str) -> String {
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    // What all processes have is called the same everywhere.
    let name = if name.starts_with("process_") { name.to_owned() } else { format!("onecode_{name}") };
    *text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    name
}

/// Seconds that each living thread has run, and has waited for a CPU, to the nanosecond (`/proc/PID/schedstat`,
/// Documentation/scheduler/sched-stats); of threads with one name together.
fn threads() -> impl Iterator<Item = (String, [f64; 2])> {
    let mut all = BTreeMap::<String, [f64; 2]>::new();
    for thread in Process::myself().and_then(|process| process.tasks()).into_iter().flatten().flatten() {
        let (Ok(stat), Ok(times)) = (thread.stat(), thread.schedstat()) else { continue };
        let [ran, waited] = all.entry(stat.comm).or_default();
        *ran += times.sum_exec_runtime as f64 / 1e9;
        *waited += times.run_delay as f64 / 1e9;
    }
    all.into_iter()
}

const CONNTRACK: &str = "/proc/sys/net/netfilter/nf_conntrack_";

/// The number that a file of the kernel's holds; 0 where there is none, or less.
fn number(path: &str) -> f64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).map_or(0.0, |number: f64| number.max(0.0))
}

/// A count of the host's, from lines of names and of values in turn (proc_pid_net(5), `netstat` and `snmp`).
fn counted(file: &str, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let (pairs, _) = words.as_chunks::<2>();
    let value = pairs.iter().find_map(|[names, values]| values.get(names.iter().position(|own| *own == name)?));
    value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

/// The sum over all CPUs of a column of `/proc/net/softnet_stat` (Documentation/networking/scaling).
fn softnet(column: usize) -> f64 {
    let text = fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let of_cpu = |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
    text.lines().filter_map(of_cpu).sum::<u64>() as f64
}
