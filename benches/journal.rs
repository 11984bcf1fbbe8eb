//! The journal alone: `fdatasync` on space written with zeros, then both writers through two lanes with records of
//! about 100 bytes. `cargo bench --bench journal -- [FOLDER]`; the folder must be on the disk that is meant.
//!
//! - `closed`: one record at a time, the next one after its acknowledgement.
//! - `paced`: 100 records each 2 ms, 50,000 a second.
//! - `full`: as many as the lanes take.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use onecode::journal::writer::make_folder;
use onecode::journal::{End, Handle, Lane, Port, Record, Writer, start};

const SECONDS: u64 = 5;

fn main() {
    let folder =
        std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("onecode-journal-bench-{}", std::process::id()));
    make_folder(&folder).expect("the folder can be made");
    for bytes in [4_096, 16_384, 131_072] {
        println!("pwrite {bytes} + fdatasync, buffered, zero-written: {:.0}/s", raw_syncs(&folder, bytes));
    }
    let found = Writer::choose(&folder, None);
    println!("chosen: {found}");
    for writer in [found, Writer::Buffered("for comparison".to_owned())] {
        for load in ["closed", "paced", "full"] {
            let journal = folder.join(format!("{load}-{}", matches!(writer, Writer::Glommio)));
            make_folder(&journal).expect("the folder can be made");
            measure(&journal, &writer, load);
        }
    }
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
}

fn raw_syncs(folder: &Path, bytes: usize) -> f64 {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(folder.join("raw")).unwrap();
    file.write_all(&vec![0; 64 << 20]).unwrap();
    file.sync_all().unwrap();
    let (began, block, mut count) = (Instant::now(), vec![0x5a; bytes], 0);
    while began.elapsed() < Duration::from_secs(2) {
        file.write_all_at(&block, (count % (64 << 20) / bytes as u64) * bytes as u64 % (60 << 20)).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    count as f64 / began.elapsed().as_secs_f64()
}

/// One producer behind two lanes: what has been appended when, until it is durable.
struct Producer {
    ports: Vec<Port>,
    waiting: Vec<std::collections::VecDeque<Instant>>,
    heard: Vec<u64>,
    times_us: Vec<u32>,
}

impl Producer {
    fn append(&mut self, lane: usize) -> bool {
        let record = Record::Scan {
            id: [7; 16],
            at_ms: 1_700_000_000_000,
            received_ms: 1_700_000_000_100,
            cti: [9; 16],
            result: "valid",
            place: "place-0123456789012345678",
            device: "device-0123456789",
            test: false,
        };
        let taken = self.ports[lane].append(&record).is_ok();
        if taken {
            self.waiting[lane].push_back(Instant::now());
        }
        taken
    }

    fn hear(&mut self) -> usize {
        let now = Instant::now();
        for (lane, port) in self.ports.iter().enumerate() {
            let durable = port.lane.durable.load();
            for appended in self.waiting[lane].drain(..(durable - self.heard[lane]) as usize) {
                self.times_us.push((now - appended).as_micros() as u32);
            }
            self.heard[lane] = durable;
        }
        self.waiting.iter().map(|lane| lane.len()).sum()
    }

    fn ring(&mut self, handle: &Handle) {
        if self.ports.iter_mut().fold(false, |rung, port| port.poll_bell() | rung) {
            handle.thread().unpark();
        }
    }
}

fn measure(folder: &Path, writer: &Writer, load: &str) {
    let lanes: Vec<_> = (0..2).map(|_| Lane::new()).collect();
    let end = End { next: 1, ..End::default() };
    let producer = std::thread::current();
    let ring = Box::new(move |_| producer.unpark());
    let handle = start(folder, writer, None, lanes.clone(), ring, end).expect("the journal starts");
    let counters = handle.counters.clone();
    while counters.segments.load() == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let ports = lanes.into_iter().map(Port::new).collect();
    let waiting = vec![Default::default(); 2];
    let mut producer = Producer { ports, waiting, heard: vec![0; 2], times_us: Vec::new() };
    let (began, mut batch) = (Instant::now(), 0);
    let syncs_before = counters.syncs.load();
    while began.elapsed() < Duration::from_secs(SECONDS) {
        let waiting = producer.hear();
        match load {
            "closed" if waiting == 0 => {
                producer.append(0);
            }
            "paced" if began.elapsed() >= Duration::from_millis(2) * batch => {
                for _ in 0..100 {
                    producer.append(batch as usize % 2);
                }
                batch += 1;
            }
            "full" => while producer.append(batch as usize % 2) {},
            _ => {}
        }
        batch += u32::from(load == "full");
        producer.ring(&handle);
        let next = (Duration::from_millis(2) * batch).saturating_sub(began.elapsed());
        std::thread::park_timeout(if load == "paced" { next } else { Duration::from_millis(5) });
    }
    let seconds = began.elapsed().as_secs_f64();
    let records = counters.records.load() as f64;
    let syncs = (counters.syncs.load() - syncs_before) as f64;
    let batches = counters.batches.load() as f64;
    let sync_us = counters.sync_us.load() as f64 / counters.syncs.load() as f64;
    let sync_us_max = counters.sync_us_max.load();
    let times = &mut producer.times_us;
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let name = if *writer == Writer::Glommio { "glommio" } else { "buffered" };
    println!(
        "{name:8} {load:6} {:8.0} records/s, {:6.0} batches/s, {:6.1} records/sync issued, to durable p50 {} µs p99 {} µs \
         p99.9 {} µs, sync mean {sync_us:.0} max {sync_us_max} µs",
        records / seconds,
        batches / seconds,
        records / syncs,
        at(0.5),
        at(0.99),
        at(0.999)
    );
    assert!(handle.stop(Instant::now() + Duration::from_secs(60)));
}
