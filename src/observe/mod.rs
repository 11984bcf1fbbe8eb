//! Reads every room's counters and the kernel's, for the admin listener; no room knows it.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use crossbeam::utils::CachePadded;
use procfs::process::Process;
use serde_json::{Value, json};
use strum::VariantArray;

use crate::journal;
use crate::limits::SCAN_RECORD_MS_MAX;
use crate::registry::table::Table;
use crate::service::counters::{Counter, Counters, EndReason, RESULTS};
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
    /// What is damaged, by segment.
    pub damaged: Mutex<BTreeMap<u64, String>>,
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
}

impl Folding {
    /// How many segments are damaged, and what is wrong with the oldest of them.
    fn damaged(&self) -> (u64, Option<String>) {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        (damaged.len() as u64, damaged.values().next().cloned())
    }
}

impl Observer {
    /// How long the oldest record that is not on disk has waited. The clocks of shards begin at the start of each.
    fn waited_ms(&self, now: Now) -> u64 {
        let since = self.counters.iter().map(|counters| counters.journal_waits_since_ms.get());
        since.filter(|since| *since > 0).min().map_or(0, |since| now.mono_ms().saturating_sub(since))
    }

    fn sum(&self, of: impl Fn(&Counters) -> &Counter) -> u64 {
        self.counters.iter().map(|counters| of(counters).get()).sum()
    }
}

/// The counts that are one number each: name without `onecode_` and `_total`, help, which.
type Count = (&'static str, &'static str, fn(&Counters) -> &Counter);

const COUNTS: [Count; 16] = [
    ("signatures", "Codes signed.", |all| &all.signatures),
    ("ahead_signatures", "Of the signatures, those made before they were asked for.", |all| &all.ahead_signatures),
    ("ahead_hits", "Refreshes that found their signature made.", |all| &all.ahead_hits),
    ("payload_hits", "Refreshes answered from this window's payload.", |all| &all.payload_hits),
    ("received_bytes", "Bytes received.", |all| &all.received_bytes),
    ("sent_bytes", "Bytes handed to the kernel for sending.", |all| &all.sent_bytes),
    ("ring_overflows", "Completions that found the ring's queue full; stays 0.", |all| &all.ring_overflows),
    ("zerocopy_sends", "Pages sent without a copy.", |all| &all.zerocopy_sends),
    ("zerocopy_copies", "Of these, copied by the kernel all the same.", |all| &all.zerocopy_copies),
    ("connections_accepted", "Connections accepted.", |all| &all.accepted),
    (
        "connections_refused",
        "Connections closed at once, all places being taken, and accepts that failed for want of descriptors.",
        |all| &all.refused,
    ),
    ("journal_appended", "Records handed to the journal.", |all| &all.journal_appended),
    ("journal_acknowledged", "Records answered once they were on disk.", |all| &all.journal_acknowledged),
    ("journal_refused", "Records not taken: a lane was full, or the journal has failed.", |all| &all.journal_refused),
    ("statuses_ignored", "Statements about residents that were no news.", |all| &all.statuses_ignored),
    ("scans_unrecorded", "Verdicts that went out without their record on disk.", |all| &all.scans_unrecorded),
];

/// What the journal and the fold tell: name, kind, help, which, and what that is divided by for the unit of the name.
type Told = (&'static str, &'static str, &'static str, fn(&Folding) -> u64, u32);

const JOURNAL: [Told; 16] = [
    ("records_total", "counter", "Records on disk, by this process.", |all| all.journal.records.load(Relaxed), 1),
    ("batches_total", "counter", "Batches that they were written in.", |all| all.journal.batches.load(Relaxed), 1),
    ("bytes_total", "counter", "Bytes written, padding included.", |all| all.journal.bytes.load(Relaxed), 1),
    ("syncs_total", "counter", "Syncs asked of the disk.", |all| all.journal.syncs.load(Relaxed), 1),
    ("sync_seconds_total", "counter", "Time that they took.", |all| all.journal.sync_us.load(Relaxed), 1_000_000),
    ("sync_seconds_max", "gauge", "The longest of them.", |all| all.journal.sync_us_max.load(Relaxed), 1_000_000),
    ("segments_total", "counter", "Segments begun.", |all| all.journal.segments.load(Relaxed), 1),
    ("durable_to", "gauge", "The last record on disk.", |all| all.journal.durable_to.load(Relaxed), 1),
    ("folded_to", "gauge", "The last record in this process's last snapshot.", |all| all.folded_to.load(Relaxed), 1),
    ("folds_total", "counter", "Snapshots written.", |all| all.folds.load(Relaxed), 1),
    ("fold_failures_total", "counter", "Snapshots that failed.", |all| all.failures.load(Relaxed), 1),
    ("disk_bytes", "gauge", "The journal's files.", |all| all.disk_bytes.load(Relaxed), 1),
    ("full", "gauge", "1 while writes are refused: journal.disk_bytes_max.", |all| all.shut.load(Relaxed).into(), 1),
    ("full_for_scans", "gauge", "1 while scans are refused.", |all| all.shut_to_scans.load(Relaxed).into(), 1),
    ("damaged_segments", "gauge", "Segments that cannot be read as a whole.", |all| all.damaged().0, 1),
    ("failed", "gauge", "1 once a write or a sync has failed.", |all| all.journal.failed.load(Relaxed).into(), 1),
];

impl Overview for Observer {
    fn metrics(&self, now: Now) -> Bytes {
        let mut text = String::with_capacity(8 * 1_024);
        describe(&mut text, "onecode_build_info", "gauge", "Always 1; the version and the driver that runs.");
        let version = env!("CARGO_PKG_VERSION");
        line(&mut text, format_args!("onecode_build_info{{version=\"{version}\",driver=\"{}\"}} 1", self.driver));
        let help = "Answers, by route and by the hundreds of the status.";
        describe(&mut text, "onecode_requests_total", "counter", help);
        for route in Route::VARIANTS {
            let name: &str = route.into();
            for (index, result) in RESULTS.iter().enumerate() {
                let count = self.sum(|counters| &counters.answers[*route as usize][index]);
                let labels = format_args!("route=\"{name}\",result=\"{result}\"");
                line(&mut text, format_args!("onecode_requests_total{{{labels}}} {count}"));
            }
        }
        for (name, help, which) in COUNTS {
            figure(&mut text, &format!("onecode_{name}_total"), "counter", help, &self.sum(which));
        }
        describe(&mut text, "onecode_connections_open", "gauge", "Connections open now, by shard.");
        for (shard, counters) in self.counters.iter().enumerate() {
            line(&mut text, format_args!("onecode_connections_open{{shard=\"{shard}\"}} {}", counters.open.get()));
        }
        describe(&mut text, "onecode_connections_ended_total", "counter", "Connections ended, by reason.");
        for reason in EndReason::VARIANTS {
            let (count, reason) = (self.sum(|counters| &counters.ended[*reason as usize]), <&str>::from(reason));
            line(&mut text, format_args!("onecode_connections_ended_total{{reason=\"{reason}\"}} {count}"));
        }
        let mut tell = |name: &str, kind, help, value: &dyn Display| figure(&mut text, name, kind, help, value);
        let table = &self.registry;
        tell("onecode_residents", "gauge", "Residents in the registry.", &table.len());
        tell("onecode_residents_test", "gauge", "Those of them that are marked as test.", &table.test_len());
        let help = "Places taken in the registry: by residents, those removed since the start, and writes under way.";
        tell("onecode_residents_used", "gauge", help, &table.used());
        tell("onecode_residents_max", "gauge", "Residents for whom the registry has room.", &table.capacity());
        for (name, kind, help, which, divisor) in JOURNAL {
            let value = which(&self.folding) as f64 / f64::from(divisor);
            tell(&format!("onecode_journal_{name}"), kind, help, &value);
        }
        let help = "How long the oldest record that is not on disk has waited.";
        tell("onecode_journal_waiting_seconds", "gauge", help, &(self.waited_ms(now) as f64 / 1e3));
        let cpu_s = format!("{:.6}", cpu_s());
        tell("process_cpu_seconds_total", "counter", "CPU time of all threads, from /proc/self/task.", &cpu_s);
        let bytes = resident_bytes();
        tell("process_resident_memory_bytes", "gauge", "Memory in use, from /proc/self/statm.", &bytes);
        let [started_s, now_s] = [self.started_unix_ms, now.unix_ms].map(|ms| format!("{:.3}", ms as f64 / 1e3));
        tell("process_start_time_seconds", "gauge", "When the process started, since 1970.", &started_s);
        tell("process_clock_seconds", "gauge", "The process's clock, since 1970.", &now_s);
        Bytes::from(text)
    }

    fn journal(&self, now: Now) -> String {
        let (waited_ms, (damaged, first)) = (self.waited_ms(now), self.folding.damaged());
        let late = format!("late: the oldest record has waited for {} s", waited_ms / 1_000);
        let damage = first.map(|first| format!("{damaged} damaged: {first}"));
        let late = (waited_ms >= SCAN_RECORD_MS_MAX).then_some(late);
        late.into_iter().chain(damage).collect::<Vec<_>>().join("; ")
    }

    fn status(&self, now: Now) -> Bytes {
        let answers = Route::VARIANTS.iter().map(|route| {
            let count = |index: usize| self.sum(|counters| &counters.answers[*route as usize][index]);
            (
                <&str>::from(route),
                RESULTS.iter().enumerate().map(|(index, result)| (*result, count(index))).collect::<Value>(),
            )
        });
        let journal = JOURNAL.iter().map(|(name, _, _, which, divisor)| {
            let value = which(&self.folding);
            (*name, if *divisor == 1 { json!(value) } else { json!(value as f64 / f64::from(*divisor)) })
        });
        let open: Vec<u64> = self.counters.iter().map(|counters| counters.open.get()).collect();
        let mut document = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "driver": self.driver,
            "uptime_s": now.unix_ms.saturating_sub(self.started_unix_ms) / 1_000,
            "residents": self.registry.len(),
            "residents_test": self.registry.test_len(),
            "residents_used": self.registry.used(),
            "residents_max": self.registry.capacity(),
            "journal": journal.collect::<Value>(),
            "connections_open": open,
            "cpu_s": cpu_s(),
            "resident_memory_bytes": resident_bytes(),
            "requests": answers.collect::<Value>(),
        });
        for (name, _, which) in COUNTS {
            document[name] = self.sum(which).into();
        }
        Bytes::from(document.to_string())
    }
}

fn describe(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

/// A figure without labels.
fn figure(text: &mut String, name: &str, kind: &str, help: &str, value: &dyn Display) {
    describe(text, name, kind, help);
    line(text, format_args!("{name} {value}"));
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
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
fn resident_bytes() -> u64 {
    Process::myself().and_then(|process| process.statm()).map_or(0, |sizes| sizes.resident * procfs::page_size())
}
