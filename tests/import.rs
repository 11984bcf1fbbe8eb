//! The promise of `onecode import`: right rows are in, wrong rows are named, and what fails leaves the registry whole.
//!
//! Runs the real binary on real files; the rules of a row and of merging are tested where they are made.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use onecode::registry::data_folder::DataFolder;
use onecode::registry::demo;

const HEADER: &str = "id_number,status,updated_at";

/// A data folder, and beside it the files that are imported into it.
struct Site {
    outer: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        Site { outer: tempfile::tempdir().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.outer.path().join("data")
    }

    fn snapshot(&self) -> Vec<u8> {
        fs::read(self.data().join("registry.snapshot")).unwrap()
    }

    /// The rows of the snapshot, without its header, which has the time in it.
    fn rows(&self) -> Vec<u8> {
        self.snapshot()[4_096..].to_vec()
    }

    fn rejects(&self) -> String {
        fs::read_to_string(self.data().join("rejects.csv")).unwrap()
    }

    fn import(&self, csv: impl AsRef<[u8]>, flags: &[&str]) -> Output {
        let file = self.outer.path().join("residents.csv");
        fs::write(&file, csv).unwrap();
        import(&self.data(), &file, flags)
    }
}

fn import(data: &Path, file: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onecode"));
    command.arg("import").arg("--json").arg("--data").arg(data).args(flags).arg(file).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn count(output: &Output, name: &str) -> u64 {
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report[name].as_u64().unwrap()
}

/// All rows were taken, and the counts add up to them.
fn assert_taken(output: &Output, rows: u64, rejected: u64) {
    assert_eq!(output.status.code(), Some(i32::from(rejected > 0)), "{}", stderr(output));
    assert_eq!((count(output, "rows"), count(output, "rejected")), (rows, rejected));
    let sum: u64 = ["inserted", "updated", "older", "duplicates", "conflicts", "rejected"]
        .map(|name| count(output, name))
        .iter()
        .sum();
    assert_eq!(rows, sum);
}

/// Nothing was taken, for this reason, said in one line.
fn assert_refused(output: &Output, reason: &str) {
    assert_ended(output, 78, reason);
}

fn assert_ended(output: &Output, status: i32, reason: &str) {
    let error = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{error}");
    assert!(error.starts_with("onecode: import: ") && error.contains(reason), "{error}");
    assert_eq!((error.lines().count(), stdout(output).as_str()), (1, ""));
}

fn id(n: u32) -> String {
    String::from_utf8(demo::id_number(n).as_bytes().to_vec()).unwrap()
}

fn csv(rows: &[(u32, &str)]) -> String {
    rows.iter().fold(format!("{HEADER}\n"), |csv, (n, rest)| csv + &format!("{},{rest}\n", id(*n)))
}

#[test]
fn one_registry_comes_from_every_encoding_and_line_end() {
    let plain = csv(&[(1, "green,1700000001000"), (2, "yellow,1700000002000"), (3, "red,1700000003000")]);
    let chinese = plain.replace("green", "绿").replace("yellow", "黄").replace("red", "红");
    let quoted = plain.replace("green", "\"green\"").replace(",1700000002000", ",\"2023-11-15T06:13:22+08:00\"");
    let (gb18030, ..) = encoding_rs::GB18030.encode(&chinese);
    let site = Site::new();
    assert_taken(&site.import(&plain, &[]), 3, 0);
    let expected = site.rows();
    for other in [
        chinese.clone().into_bytes(),
        gb18030.to_vec(),
        format!("\u{feff}{chinese}").into_bytes(),
        quoted.replace('\n', "\r\n").into_bytes(),
    ] {
        assert_taken(&site.import(&other, &["--replace"]), 3, 0);
        assert_eq!(site.rows(), expected);
    }
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(site.data()), mode(site.data().join("registry.snapshot"))), (0o700, 0o600));
}

#[test]
fn wrong_rows_are_listed_without_an_id_number_and_the_rest_is_in() {
    let site = Site::new();
    let wrong = format!(
        "{HEADER}\n{},green,1700000000001\n{},blue,1700000000001\n110105194912310021,red,1700000000001\n",
        id(1),
        id(2)
    );
    let output = site.import(wrong, &[]);
    assert_taken(&output, 3, 2);
    assert_eq!(count(&output, "residents"), 1);
    let rejects = site.rejects();
    let lines: Vec<_> = rejects.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "line,column,reason"));
    assert!(lines[1].starts_with("3,status,\"") && lines[2].starts_with("4,id_number,\""), "{rejects}");
    assert!(stderr(&output).contains("2 rows were rejected") && stderr(&output).contains("rejects.csv"));
    for text in [rejects, stderr(&output), stdout(&output)] {
        assert!(!text.contains(&id(2)) && !text.contains("110105194912310021"));
    }
}

#[test]
fn a_re_import_in_another_order_gives_the_same_registry() {
    let mut rows: Vec<_> = (0..5_000u32)
        .map(|n| (n % 2_000 + 1, ["green,", "red,", "yellow,"][n as usize % 3], 1_700_000_000_000 + u64::from(n / 7)))
        .collect();
    let text = |rows: &[(u32, &str, u64)]| {
        rows.iter().fold(format!("{HEADER}\n"), |csv, (n, status, at)| csv + &format!("{},{status}{at}\n", id(*n)))
    };
    let first = Site::new();
    let all = text(&rows);
    assert_taken(&first.import(&all, &[]), 5_000, 0);
    let expected = first.rows();
    fastrand::Rng::with_seed(5).shuffle(&mut rows);
    let output = first.import(text(&rows), &[]);
    assert_taken(&output, 5_000, 0);
    assert_eq!((first.rows(), count(&output, "inserted"), count(&output, "updated")), (expected.clone(), 0, 0));

    let second = Site::new();
    fs::create_dir_all(second.data()).unwrap();
    let copied = Command::new("cp").arg("-r").arg(first.data().join("keys")).arg(second.data()).status().unwrap();
    assert!(copied.success());
    assert_taken(&second.import(text(&rows[..2_000]), &[]), 2_000, 0);
    assert_taken(&second.import(text(&rows[2_000..]), &[]), 3_000, 0);
    assert_eq!(second.rows(), expected);
}

#[test]
fn replace_takes_the_file_as_the_whole() {
    let site = Site::new();
    assert_taken(
        &site.import(csv(&[(1, "green,1700000000009"), (2, "green,1700000000009"), (3, "green,1700000000009")]), &[]),
        3,
        0,
    );
    // What is older undoes nothing.
    let output = site.import(csv(&[(2, "red,1700000000001"), (4, "red,1700000000001")]), &["--replace"]);
    assert_taken(&output, 2, 0);
    let names = ["inserted", "older", "kept", "removed", "residents"];
    assert_eq!(names.map(|name| count(&output, name)), [1, 1, 2, 0, 4]);
    let output = site.import(csv(&[(2, "red,1700000000011"), (4, "red,1700000000011")]), &["--replace"]);
    assert_taken(&output, 2, 0);
    assert_eq!(["inserted", "updated", "removed", "residents"].map(|name| count(&output, name)), [0, 2, 2, 2]);
    // The same file again changes nothing and says so; of one that differs in the status alone the stricter stands.
    let output = site.import(csv(&[(2, "red,1700000000011"), (4, "green,1700000000011")]), &["--replace"]);
    assert_taken(&output, 2, 0);
    assert_eq!(["duplicates", "updated", "conflicts", "inserted"].map(|name| count(&output, name)), [1, 0, 1, 0]);
    let twice = [(2, "red,1700000000011"), (2, "green,1700000000011"), (2, "red,1700000000011")];
    let output = site.import(csv(&twice), &[]);
    assert_taken(&output, 3, 0);
    assert_eq!(["duplicates", "conflicts"].map(|name| count(&output, name)), [2, 1], "each row is counted once");
}

#[test]
fn standard_input_is_read_too_and_counts_are_printed_for_people() {
    let site = Site::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_onecode"));
    command
        .arg("import")
        .arg("/dev/stdin")
        .env("ONECODE_DATA", site.data())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(csv(&[(1, "green,1700000000001")]).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(stdout(&output).lines().any(|line| line.split_whitespace().eq(["inserted", "1"])));
    assert_eq!(site.rejects(), "line,column,reason\n");
}

#[test]
fn what_is_refused_is_named_and_leaves_the_registry_as_it_was() {
    let site = Site::new();
    let good = csv(&[(1, "green,1700000000001")]);
    assert_taken(&site.import(&good, &[]), 1, 0);
    let before = site.snapshot();
    assert_refused(&site.import("name,phone\n", &[]), "column 1 of the first row");
    assert_refused(&site.import(format!("{},green,1700000000001\n", id(2)), &[]), "column 1 of the first row");
    assert_ended(&import(&site.data(), &site.outer.path().join("missing.csv"), &[]), 74, "missing.csv: No such file");
    let other_keys = site.outer.path().join("other");
    assert_refused(&site.import(&good, &["--keys-dir", other_keys.to_str().unwrap()]), "made with hash key");
    assert!(!other_keys.exists(), "no new keys beside a registry that needs the old ones");
    assert_refused(&site.import(HEADER, &["--replace"]), "--replace would leave nobody in the registry");
    let output = site.import(csv(&[(1, "blue,1700000000001")]), &["--replace"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("--replace would leave nobody in the registry"), "{}", stderr(&output));
    let config = site.outer.path().join("onecode.toml");
    fs::write(&config, "registry.capacity = 1\n").unwrap();
    let two = csv(&[(1, "green,1700000000001"), (2, "green,1700000000001")]);
    assert_refused(&site.import(two, &["--config", config.to_str().unwrap()]), "1 is less than the 2 residents");
    assert_eq!(site.snapshot(), before);

    let path = site.data().join("registry.snapshot");
    for (offset, reason) in [(8, "snapshot version 254"), (4_100, "the block at offset 4096 is damaged")] {
        let mut changed = before.clone();
        changed[offset] = if offset == 8 { 254 } else { !changed[offset] };
        fs::write(&path, &changed).unwrap();
        assert_refused(&site.import(&good, &[]), reason);
        assert_eq!(site.snapshot(), changed);
    }
}

#[test]
fn a_held_data_folder_is_refused_and_its_holder_named() {
    let site = Site::new();
    let _held = DataFolder::open(&site.data(), std::process::id(), "onecode serve").unwrap();
    let holder = format!("held by process {} (onecode serve)", std::process::id());
    assert_ended(&site.import(csv(&[(1, "green,1700000000001")]), &[]), 75, &holder);
}

#[test]
fn an_unusable_data_folder_is_named() {
    let site = Site::new();
    fs::write(site.data(), "a file").unwrap();
    assert_ended(&site.import(csv(&[(1, "green,1700000000001")]), &[]), 73, site.data().to_str().unwrap());
}

#[test]
fn rejects_that_cannot_be_written_are_the_data_folders_fault() {
    let site = Site::new();
    let good = csv(&[(1, "green,1700000000001")]);
    fs::create_dir_all(site.data().join("rejects.csv")).unwrap();
    assert_ended(&site.import(&good, &[]), 73, "rejects.csv: cannot be written");
}

#[test]
fn a_registry_behind_a_link_is_refused_by_name_and_the_link_stays() {
    let site = Site::new();
    let good = csv(&[(1, "green,1700000000001")]);
    let (link, target) = (site.data().join("registry.snapshot"), site.outer.path().join("volume"));
    fs::create_dir(site.data()).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert_refused(&site.import(&good, &[]), "registry.snapshot: is a symbolic link");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_onecode"));
    serve.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"]).arg(site.data());
    let output = serve.output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("registry.snapshot: is a symbolic link"), "{}", stderr(&output));
    fs::write(&target, "a registry").unwrap();
    assert_refused(&site.import(&good, &["--replace"]), "registry.snapshot: is a symbolic link");
    assert!(link.is_symlink() && fs::read_to_string(&target).unwrap() == "a registry");
    assert!(!site.data().join("keys").exists(), "no keys for a registry that may have others");
}

#[test]
fn rejects_are_replaced_as_a_whole() {
    let site = Site::new();
    let wrong = csv(&[(1, "green,1700000000001"), (2, "green,1700000000")]);
    for _ in 0..2 {
        assert_taken(&site.import(&wrong, &[]), 2, 1);
    }
    assert!(site.rejects().contains("Unix times are in milliseconds"));
    let mode = fs::metadata(site.data().join("rejects.csv")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_refused(&site.import("name\n", &[]), "first row");
    assert_eq!(site.rejects().lines().count(), 2, "until an import is done the list before it stands");
    assert!(fs::read_dir(site.data()).unwrap().all(|entry| !entry.unwrap().path().ends_with(".rejects.csv.new")));
}

#[test]
fn the_data_folder_is_that_of_flag_environment_file_and_no_other() {
    let site = Site::new();
    let path = |name: &str| site.outer.path().join(name);
    fs::write(path("r.csv"), csv(&[(1, "green,1700000000001")])).unwrap();
    let text = format!("data = {:?}\nkeys_dir = {:?}\n", path("of-file"), path("keys-of-file"));
    fs::write(path("c.toml"), text).unwrap();
    let run = |words: &[&str], variable: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onecode"));
        command.args(words).arg("--config").arg(path("c.toml")).envs(variable.map(|value| ("ONECODE_DATA", value)));
        command.output().unwrap()
    };
    let residents = path("r.csv");
    let words = ["import", residents.to_str().unwrap()];
    assert!(run(&words, None).status.success());
    assert!(path("of-file/registry.snapshot").exists() && path("keys-of-file/keyring.json").exists());
    assert!(run(&words, path("of-variable").to_str()).status.success());
    assert!(path("of-variable/registry.snapshot").exists());
    assert!(run(&["keys", "list"], None).status.success());
    assert_eq!(run(&["verify", "x"], None).status.code(), Some(1));
    for words in [&words[..], &["keys", "list"], &["verify", "x"]] {
        let output = run(words, Some(""));
        assert_eq!(output.status.code(), Some(78), "an empty variable is none");
        assert!(stderr(&output).contains("ONECODE_DATA: data: is empty"), "{}", stderr(&output));
    }
}

#[test]
fn what_cannot_be_printed_is_said_with_what_was_done() {
    let site = Site::new();
    fs::write(site.outer.path().join("r.csv"), csv(&[(1, "green,1700000000001")])).unwrap();
    let run = |words: &[&str]| {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_onecode"));
        command.args(words).env("ONECODE_DATA", site.data()).current_dir(site.outer.path()).stdout(full);
        command.output().unwrap()
    };
    let output = run(&["import", "r.csv"]);
    assert_eq!(output.status.code(), Some(74));
    assert!(stderr(&output).contains("the import is done, but standard output"), "{}", stderr(&output));
    assert!(site.data().join("registry.snapshot").exists());
    for words in [&["verify", "x"][..], &["keys", "list"], &["check-config"]] {
        assert_eq!(run(words).status.code(), Some(74), "{words:?}");
    }
}

/// A small file system of its own, so that its disk can be full.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<SmallDisk> {
        fs::create_dir_all(at).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=700", "onecode-test"]).arg(at).status();
        mount.is_ok_and(|status| status.success()).then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_leaves_the_old_registry_whole() {
    let site = Site::new();
    let Some(_disk) = SmallDisk::mount(&site.data()) else {
        eprintln!("SKIPPED: a_full_disk_leaves_the_old_registry_whole needs to mount a tmpfs (root)");
        return;
    };
    assert_taken(&site.import(csv(&[(1, "green,1700000000001")]), &[]), 1, 0);
    let before = site.snapshot();
    let many: Vec<_> = (1..100_000).map(|n| (n, "red,1700000000002")).collect();
    assert_ended(&site.import(csv(&many), &[]), 73, "cannot be replaced, the old one stands: No space left on device");
    assert_eq!(site.snapshot(), before);
    let mut names: Vec<_> = fs::read_dir(site.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["keys", "lock", "registry.snapshot", "rejects.csv"], "nothing is left aside");

    // So full that not even one rejected row can be written down.
    let filled = fs::write(site.data().join("filler"), vec![0; 4 << 20]);
    assert!(filled.is_err());
    assert_ended(&site.import(format!("{HEADER}\n").repeat(9_000), &[]), 73, "No space left on device");
    assert_eq!(site.snapshot(), before);
}
