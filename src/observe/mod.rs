//! Reads every room's counters and the kernel's, for the admin listener; no room knows it.

use std::fmt::Write;
use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam::utils::CachePadded;

use crate::registry::table::Table;
use crate::service::counters::{Counter, Counters, END_REASONS, RESULTS};
use crate::service::{Overview, Route};
use crate::words::Now;

/// What one process shows of itself.
pub struct Observer {
    counters: Vec<Arc<CachePadded<Counters>>>,
    registry: Arc<Table>,
    driver: String,
    started_unix_ms: u64,
}

impl Observer {
    /// Over the counters of all shards, in the order of their numbers.
    pub fn new(
        counters: Vec<Arc<CachePadded<Counters>>>,
        registry: Arc<Table>,
        driver: String,
        started_unix_ms: u64,
    ) -> Observer {
        Observer { counters, registry, driver, started_unix_ms }
    }

    fn sum(&self, of: impl Fn(&Counters) -> &Counter) -> u64 {
        self.counters.iter().map(|counters| of(counters).get()).sum()
    }
}

/// The counts that are one number each: name, help, which.
type Count = (&'static str, &'static str, fn(&Counters) -> &Counter);

const COUNTS: [Count; 6] = [
    ("onecode_signatures_total", "Codes signed.", |counters| &counters.signatures),
    ("onecode_payload_hits_total", "Refreshes answered from this window's payload.", |counters| &counters.payload_hits),
    ("onecode_received_bytes_total", "Bytes received.", |counters| &counters.received_bytes),
    ("onecode_sent_bytes_total", "Bytes handed to the kernel for sending.", |counters| &counters.sent_bytes),
    ("onecode_connections_accepted_total", "Connections accepted.", |counters| &counters.accepted),
    ("onecode_connections_refused_total", "Connections closed at once, all places being taken.", |counters| {
        &counters.refused
    }),
];

impl Overview for Observer {
    fn metrics(&self, now: Now) -> Bytes {
        let mut text = String::with_capacity(8 * 1_024);
        describe(&mut text, "onecode_build_info", "gauge", "Always 1; the version and the driver that runs.");
        let version = env!("CARGO_PKG_VERSION");
        line(&mut text, format_args!("onecode_build_info{{version=\"{version}\",driver=\"{}\"}} 1", self.driver));
        describe(
            &mut text,
            "onecode_requests_total",
            "counter",
            "Answers, by route and by the hundreds of the status.",
        );
        for route in Route::ALL {
            for (index, result) in RESULTS.iter().enumerate() {
                let count = self.sum(|counters| &counters.answers[route as usize][index]);
                let labels = format_args!("route=\"{}\",result=\"{result}\"", route.name());
                line(&mut text, format_args!("onecode_requests_total{{{labels}}} {count}"));
            }
        }
        for (name, help, which) in COUNTS {
            describe(&mut text, name, "counter", help);
            line(&mut text, format_args!("{name} {}", self.sum(which)));
        }
        describe(&mut text, "onecode_connections_open", "gauge", "Connections open now, by shard.");
        for (shard, counters) in self.counters.iter().enumerate() {
            line(&mut text, format_args!("onecode_connections_open{{shard=\"{shard}\"}} {}", counters.open.get()));
        }
        describe(&mut text, "onecode_connections_ended_total", "counter", "Connections ended, by reason.");
        for (index, reason) in END_REASONS.iter().enumerate() {
            let count = self.sum(|counters| &counters.ended[index]);
            line(&mut text, format_args!("onecode_connections_ended_total{{reason=\"{reason}\"}} {count}"));
        }
        describe(&mut text, "onecode_residents", "gauge", "Residents in the registry.");
        line(&mut text, format_args!("onecode_residents {}", self.registry.len()));
        describe(&mut text, "onecode_residents_max", "gauge", "Residents for whom the registry has room.");
        line(&mut text, format_args!("onecode_residents_max {}", self.registry.capacity()));
        describe(&mut text, "process_cpu_seconds_total", "counter", "CPU time of all threads, from /proc/self/task.");
        line(&mut text, format_args!("process_cpu_seconds_total {:.6}", cpu_s()));
        describe(&mut text, "process_resident_memory_bytes", "gauge", "Memory in use, from /proc/self/statm.");
        line(&mut text, format_args!("process_resident_memory_bytes {}", resident_bytes()));
        describe(&mut text, "process_start_time_seconds", "gauge", "When the process started, since 1970.");
        line(&mut text, format_args!("process_start_time_seconds {:.3}", self.started_unix_ms as f64 / 1e3));
        describe(&mut text, "process_clock_seconds", "gauge", "The process's clock, since 1970.");
        line(&mut text, format_args!("process_clock_seconds {:.3}", now.unix_ms as f64 / 1e3));
        Bytes::from(text)
    }

    fn status(&self, now: Now) -> Bytes {
        let answers: serde_json::Map<String, serde_json::Value> = Route::ALL
            .into_iter()
            .map(|route| {
                let results = RESULTS.iter().enumerate().map(|(index, result)| {
                    let count = self.sum(|counters| &counters.answers[route as usize][index]);
                    ((*result).to_owned(), count.into())
                });
                (route.name().to_owned(), serde_json::Value::Object(results.collect()))
            })
            .collect();
        let open: Vec<u64> = self.counters.iter().map(|counters| counters.open.get()).collect();
        let document = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "driver": self.driver,
            "uptime_s": now.unix_ms.saturating_sub(self.started_unix_ms) / 1_000,
            "residents": self.registry.len(),
            "residents_max": self.registry.capacity(),
            "signatures": self.sum(|counters| &counters.signatures),
            "payload_hits": self.sum(|counters| &counters.payload_hits),
            "sent_bytes": self.sum(|counters| &counters.sent_bytes),
            "received_bytes": self.sum(|counters| &counters.received_bytes),
            "connections_open": open,
            "cpu_s": cpu_s(),
            "resident_memory_bytes": resident_bytes(),
            "requests": answers,
        });
        Bytes::from(document.to_string())
    }
}

fn describe(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{arguments}");
}

/// Run time of all living threads, to the nanosecond (`/proc/PID/schedstat`, Documentation/scheduler/sched-stats).
fn cpu_s() -> f64 {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return 0.0 };
    let run_ns = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    run_ns.sum::<u64>() as f64 / 1e9
}

/// `/proc/self/statm`, second field, in pages of 4 KiB (proc(5)).
fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()));
    pages.unwrap_or(0) * 4_096
}
