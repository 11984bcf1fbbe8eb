//! The two writers on real files, which must bring back the same.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::journal::recover::{Folder, recover};
use crate::journal::{End, Lane, Port, Record, Writer, start};

const RECORDS: u64 = 3_000;

fn writers(folder: &Path) -> Vec<Writer> {
    let mut writers = vec![Writer::Buffered("a test wants it".to_owned())];
    match Writer::choose(folder, None) {
        Writer::Glommio => writers.push(Writer::Glommio),
        Writer::Buffered(why) => println!("glommio not run: {why}"),
    }
    writers
}

/// Appends through two lanes, stops, and returns how many records each writer says are durable.
fn run(folder: &Path, writer: &Writer, end: End, from: u64) {
    let lanes: Vec<_> = (0..2).map(|_| Lane::new()).collect();
    let rung = Arc::new(AtomicUsize::new(0));
    let ring = {
        let rung = rung.clone();
        Box::new(move |_| {
            rung.fetch_add(1, Ordering::Relaxed);
        })
    };
    let handle = start(folder, writer, None, lanes.clone(), ring, end).unwrap();
    let mut ports: Vec<_> = lanes.into_iter().map(Port::new).collect();
    for number in from..from + RECORDS {
        let port = &mut ports[number as usize % 2];
        let record = Record::Audit { at_ms: number, author: "a", action: "test", detail: "" };
        while port.append(&record).is_err() {
            std::thread::yield_now();
        }
        if port.poll_bell() {
            handle.thread().unpark();
        }
    }
    let began = Instant::now();
    while ports.iter().any(|port| port.lane.durable.load() < RECORDS / 2) {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", handle.counters.clone());
        std::thread::sleep(Duration::from_millis(1));
    }
    let counters = handle.counters.clone();
    assert!(handle.stop(Instant::now() + Duration::from_secs(60)));
    assert!(rung.load(Ordering::Relaxed) > 0);
    assert_eq!(counters.records.load(), RECORDS);
    assert!(!counters.failed.load());
}

fn read(folder: &Path) -> (Vec<u64>, End) {
    let mut times = Vec::new();
    let end = recover(&mut Folder(folder.to_owned()), None, |entry| match entry.record {
        Record::Audit { at_ms, .. } => times.push(at_ms),
        other => panic!("{other:?}"),
    });
    (times, end.unwrap())
}

#[test]
fn both_writers_bring_back_what_was_acknowledged() {
    // Not on tmpfs, where the temporary folder may be: what direct I/O does there is another thing.
    let outer = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
    for (index, writer) in writers(outer.path()).iter().enumerate() {
        let folder = outer.path().join(index.to_string()).join("journal");
        super::super::writer::make_folder(&folder).unwrap();
        let (_, end) = read(&folder);
        run(&folder, writer, end, 0);
        let (times, end) = read(&folder);
        assert_eq!(times.len() as u64, RECORDS, "{writer}");
        assert!(end.tail.is_empty() && end.torn.is_none(), "a stopped journal is marked");
        run(&folder, writer, end, RECORDS);
        let (mut times, end) = read(&folder);
        times.sort_unstable();
        assert_eq!(times, (0..2 * RECORDS).collect::<Vec<_>>());
        assert_eq!(end.next, 2 * RECORDS + 1);
        // A process that does nothing takes the place of one that did nothing.
        let files = fs::read_dir(&folder).unwrap().count();
        for _ in 0..3 {
            let (_, end) = read(&folder);
            let handle = start(&folder, writer, None, vec![Lane::new()], Box::new(|_| {}), end).unwrap();
            assert!(handle.stop(Instant::now() + Duration::from_secs(60)));
        }
        assert!(fs::read_dir(&folder).unwrap().count() <= files + 1);
    }
}
