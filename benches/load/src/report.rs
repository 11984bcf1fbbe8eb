//! What a run has shown, and its JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::connection::Failure;
use crate::options::Options;

/// Longer latencies are counted as this, one minute, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999), ("p99_99", 0.9999)];

/// Counts and latencies of one run.
pub struct Report {
    /// Requests that were due.
    pub planned: u64,
    /// Failed requests, by `Failure`.
    pub failures: [u64; Failure::NAMES.len()],
    /// Connections still open at the end of `--hold`.
    pub held: u64,
    /// From start to end.
    pub elapsed: Duration,
    statuses: BTreeMap<u16, u64>,
    bytes: u64,
    done: u64,
    /// In microseconds, to three digits.
    latencies: Histogram<u64>,
}

impl Report {
    /// Of a run that has not begun.
    pub fn new() -> Report {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order");
        Report {
            planned: 0,
            failures: [0; Failure::NAMES.len()],
            held: 0,
            elapsed: Duration::ZERO,
            statuses: BTreeMap::new(),
            bytes: 0,
            done: 0,
            latencies,
        }
    }

    /// Counts an answer; its latency only after the warm-up.
    pub fn answered(&mut self, status: u16, bytes: usize, done: usize, latency: Duration, warm: bool) {
        *self.statuses.entry(status).or_default() += 1;
        self.bytes += bytes as u64;
        self.done += done as u64;
        if !warm {
            self.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX));
        }
    }

    /// Requests that were due and have neither an answer nor a failure: whatever became of them, they count.
    fn unanswered(&self) -> u64 {
        let answered: u64 = self.statuses.values().sum();
        self.planned.saturating_sub(answered + self.failures.iter().sum::<u64>())
    }

    /// Requests that were not answered with a status below 400.
    pub fn failed(&self) -> u64 {
        let refused: u64 = self.statuses.range(400..).map(|(_, count)| count).sum();
        self.unanswered() + refused + self.failures.iter().sum::<u64>()
    }

    /// One JSON object, numbers with their unit in the name.
    pub fn json(&self, options: &Options) -> String {
        let answered: u64 = self.statuses.values().sum();
        let elapsed_s = self.elapsed.as_secs_f64();
        let statuses: Vec<String> =
            self.statuses.iter().map(|(status, count)| format!("\"{status}\": {count}")).collect();
        let failures: Vec<String> =
            Failure::NAMES.iter().zip(self.failures).map(|(name, count)| format!("\"{name}\": {count}")).collect();
        let quantiles: Vec<String> = QUANTILES
            .iter()
            .map(|(name, quantile)| format!("\"{name}\": {}", self.latencies.value_at_quantile(*quantile)))
            .collect();
        format!(
            "{{\"rate_per_s\": {}, \"connections\": {}, \"elapsed_s\": {elapsed_s:.3}, \"planned\": {}, \
             \"answered\": {answered}, \"answered_per_s\": {:.1}, \"unanswered\": {}, \"failed\": {}, \"held\": {}, \
             \"statuses\": {{{}}}, \"failures\": {{{}}}, \"bytes\": {}, \"done\": {}, \"recorded\": {}, \
             \"latency_us\": {{{}, \"max\": {}, \"mean\": {:.1}}}}}",
            options.rate,
            options.connections,
            self.planned,
            answered as f64 / elapsed_s.max(1e-9),
            self.unanswered(),
            self.failed(),
            self.held,
            statuses.join(", "),
            failures.join(", "),
            self.bytes,
            self.done,
            self.latencies.len(),
            quantiles.join(", "),
            self.latencies.max(),
            self.latencies.mean(),
        )
    }
}
