//! Reads every room's counters and the kernel's, for the admin listener; no room knows it.

use std::fmt::{Arguments, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use bytes::Bytes;
use crossbeam::utils::CachePadded;
use procfs::process::Process;
use serde_json::{Value, json};
use strum::VariantArray;

use crate::admission::{Refuser, Shared};
use crate::journal;
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
    pub folds: AtomicU64,
    /// Attempts that came to nothing.
    pub failures: AtomicU64,
    /// The last record that the snapshot is known to have.
    pub folded_to: AtomicU64,
    pub disk_bytes: AtomicU64,
    /// Writes are refused for want of space; or scans alone are.
    pub shut: AtomicBool,
    pub shut_to_scans: AtomicBool,
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
    pub certificate_expires_unix_s: Arc<AtomicU64>,
    pub reloads_refused: Arc<AtomicU64>,
    pub shared: Arc<Shared>,
    /// The interface that the public listener sends through.
    pub interface: String,
}

type Figure = (&'static str, &'static str, fn(&Observer, Now) -> f64);

/// All else that is one number: name, help, which.
const FIGURES: [Figure; 31] = [
    ("onecode_egress_budget_bytes_per_second", "What may be sent; 0: no bound.", |all, _| {
        all.shared.egress.bytes_per_s as f64
    }),
    ("onecode_brownout_level", "How many times windows are doubled.", |all, now| {
        f64::from(all.shared.brownout.level(now.unix_s()))
    }),
    ("onecode_interface_sent_bytes_total", "All bytes that the public listener's interface sent.", |all, _| {
        let status = procfs::net::dev_status().unwrap_or_default();
        status.get(&all.interface).map_or(0, |status| status.sent_bytes) as f64
    }),
    ("onecode_tcp_retransmitted_segments_total", "TCP segments that the host sent again.", |_, _| {
        procfs::net::snmp().map_or(0, |counts| counts.tcp_retrans_segs) as f64
    }),
    ("onecode_listen_overflows_total", "Connections of the host that found an accept queue full.", |_, _| {
        listen_overflows().unwrap_or(0.0)
    }),
    ("onecode_residents", "Residents in the registry.", |all, _| all.registry.len() as f64),
    ("onecode_residents_test", "Those of them that are marked as test.", |all, _| all.registry.test_len() as f64),
    ("onecode_residents_used", "Places taken, by those removed, too.", |all, _| all.registry.used() as f64),
    ("onecode_residents_max", "Residents for whom there is room.", |all, _| all.registry.capacity as f64),
    ("onecode_journal_records_total", "Records on disk, by this process.", |all, _| of(&all.journal().records)),
    ("onecode_journal_batches_total", "Batches that they were written in.", |all, _| of(&all.journal().batches)),
    ("onecode_journal_bytes_total", "Bytes written, padding included.", |all, _| of(&all.journal().bytes)),
    ("onecode_journal_syncs_total", "Syncs asked of the disk.", |all, _| of(&all.journal().syncs)),
    ("onecode_journal_sync_seconds_total", "Time that they took.", |all, _| of(&all.journal().sync_us) / 1e6),
    ("onecode_journal_sync_seconds_max", "The longest of them.", |all, _| of(&all.journal().sync_us_max) / 1e6),
    ("onecode_journal_segments_total", "Segments begun.", |all, _| of(&all.journal().segments)),
    ("onecode_journal_durable_to", "The last record on disk.", |all, _| of(&all.journal().durable_to)),
    ("onecode_journal_folded_to", "The last in this process's last snapshot.", |all, _| of(&all.folding.folded_to)),
    ("onecode_journal_folds_total", "Snapshots written.", |all, _| of(&all.folding.folds)),
    ("onecode_journal_fold_failures_total", "Snapshots that failed.", |all, _| of(&all.folding.failures)),
    ("onecode_journal_disk_bytes", "The journal's files.", |all, _| of(&all.folding.disk_bytes)),
    ("onecode_journal_full", "1 while writes are refused: journal.disk_bytes_max.", |all, _| is(&all.folding.shut)),
    ("onecode_journal_full_for_scans", "1 while scans are refused.", |all, _| is(&all.folding.shut_to_scans)),
    ("onecode_journal_failed", "1 once a write or a sync has failed.", |all, _| is(&all.journal().failed)),
    ("onecode_journal_waiting_seconds", "How long the oldest record not on disk has waited.", Observer::waited_s),
    ("onecode_reloads_refused_total", "SIGHUPs that changed nothing.", |all, _| of(&all.reloads_refused)),
    ("onecode_tls_certificate_expires_seconds", "When the first one ends; 0 without any.", |all, _| {
        of(&all.certificate_expires_unix_s)
    }),
    ("process_cpu_seconds_total", "CPU time of all threads, from /proc/self/task.", |_, _| cpu_s()),
    ("process_resident_memory_bytes", "Memory in use, from /proc/self/statm.", |_, _| resident_bytes()),
    ("process_start_time_seconds", "When it started, since 1970.", |all, _| all.started_unix_ms as f64 / 1e3),
    ("process_clock_seconds", "The process's clock, since 1970.", |_, now| now.unix_ms as f64 / 1e3),
];

fn of(figure: &AtomicU64) -> f64 {
    figure.load(Relaxed) as f64
}

fn is(state: &AtomicBool) -> f64 {
    f64::from(state.load(Relaxed))
}

impl Observer {
    fn journal(&self) -> &journal::Counters {
        &self.folding.journal
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

    /// All figures without labels: name, help, value.
    fn figures(&self, now: Now) -> impl Iterator<Item = (String, &'static str, f64)> {
        let count = |(name, help, which): &(&str, &'static str, fn(&Counters) -> &Counter)| {
            (format!("onecode_{name}_total"), *help, self.sum(which) as f64)
        };
        let figure = move |(name, help, which): Figure| (name.to_owned(), help, which(self, now));
        COUNTS.iter().map(count).chain(FIGURES.into_iter().map(figure))
    }
}

impl Overview for Observer {
    fn metrics(&self, now: Now) -> Bytes {
        let mut text = String::with_capacity(8 * 1_024);
        describe(&mut text, "onecode_build_info", "Always 1; the version and the driver that runs.");
        let version = env!("CARGO_PKG_VERSION");
        line(&mut text, format_args!("onecode_build_info{{version=\"{version}\",driver=\"{}\"}} 1", self.driver));
        describe(&mut text, "onecode_requests_total", "Answers, by route and by the hundreds of the status.");
        for route in Route::VARIANTS {
            for (index, result) in RESULTS.iter().enumerate() {
                let (name, count) = (<&str>::from(route), self.answers(*route, index));
                line(&mut text, format_args!("onecode_requests_total{{route=\"{name}\",result=\"{result}\"}} {count}"));
            }
        }
        describe(&mut text, "onecode_connections_open", "Connections open now, by shard.");
        for (shard, counters) in self.counters.iter().enumerate() {
            line(&mut text, format_args!("onecode_connections_open{{shard=\"{shard}\"}} {}", counters.open.get()));
        }
        describe(&mut text, "onecode_connections_ended_total", "Connections ended, by reason.");
        for reason in EndReason::VARIANTS {
            let (count, reason) = (self.sum(|counters| &counters.ended[*reason as usize]), <&str>::from(reason));
            line(&mut text, format_args!("onecode_connections_ended_total{{reason=\"{reason}\"}} {count}"));
        }
        describe(&mut text, "onecode_shed_total", "Requests refused or dropped under load, by who did it.");
        for refuser in Refuser::VARIANTS {
            let (count, by) = (self.sum(|counters| &counters.shed[*refuser as usize]), <&str>::from(refuser));
            line(&mut text, format_args!("onecode_shed_total{{by=\"{by}\"}} {count}"));
        }
        for (name, help, value) in self.figures(now) {
            describe(&mut text, &name, help);
            line(&mut text, format_args!("{name} {value}"));
        }
        Bytes::from(text)
    }

    /// The figures without labels by their names, without `onecode_`.
    fn status(&self, now: Now) -> Bytes {
        let answers = Route::VARIANTS.iter().map(|route| {
            let counts = RESULTS.iter().enumerate().map(|(index, result)| (*result, self.answers(*route, index)));
            (<&str>::from(route), counts.collect::<Value>())
        });
        let open: Vec<u64> = self.counters.iter().map(|counters| counters.open.get()).collect();
        let mut document = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "driver": self.driver,
            "connections_open": open,
            "requests": answers.collect::<Value>(),
        });
        for (name, _, value) in self.figures(now) {
            let whole = value.fract() == 0.0;
            document[name.trim_start_matches("onecode_")] = if whole { json!(value as u64) } else { json!(value) };
        }
        Bytes::from(document.to_string())
    }
}

fn describe(text: &mut String, name: &str, help: &str) {
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    line(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(text: &mut String, arguments: Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{arguments}");
}

/// Run time of all living threads, to the nanosecond (`/proc/PID/schedstat`, Documentation/scheduler/sched-stats).
fn cpu_s() -> f64 {
    let threads = Process::myself().and_then(|process| process.tasks()).into_iter().flatten().flatten();
    let run_ns = threads.filter_map(|thread| thread.schedstat().ok()).map(|times| times.sum_exec_runtime);
    run_ns.sum::<u64>() as f64 / 1e9
}

/// `/proc/self/statm` (proc(5)).
fn resident_bytes() -> f64 {
    Process::myself().and_then(|process| process.statm()).map_or(0, |sizes| sizes.resident * procfs::page_size()) as f64
}
/// From a line of names, and one of values (proc_pid_net(5), `netstat`).
fn listen_overflows() -> Option<f64> {
    let counts = std::fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = counts.lines().filter(|line| line.starts_with("TcpExt: ")).map(|line| line.split(' '));
    let place = lines.next()?.position(|name| name == "ListenOverflows")?;
    lines.next()?.nth(place)?.parse().ok()
}
