//! Large pages over a network that is not loopback: two network namespaces joined by a veth pair, for which one must be
//! root. The kernel copies there all the same, which is the case that the server must notice.

mod support;

use std::process::{Command, Stdio};

use support::process::{Server, Under, serve};
use support::{Client, get};

const PAGE_BYTES: usize = 300_000;

/// A namespace with one end of a pair; the other end is ours. Both go with it.
struct Namespace {
    name: String,
    address: String,
}

impl Namespace {
    /// `None`: this host does not let us.
    fn new() -> Option<Namespace> {
        let number = std::process::id() % 60_000;
        let (name, near, far) = (format!("oc{number}"), format!("ocn{number}"), format!("ocf{number}"));
        let net = format!("10.{}.{}", 200 + number / 256 % 50, number % 256);
        let namespace = Namespace { name: name.clone(), address: format!("{net}.1") };
        let (ours, theirs) = (format!("{net}.1/24"), format!("{net}.2/24"));
        let steps: [&[&str]; 6] = [
            &["netns", "add", &name],
            &["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &name],
            &["address", "add", &ours, "dev", &near],
            &["link", "set", &near, "up"],
            &["-n", &name, "address", "add", &theirs, "dev", &far],
            &["-n", &name, "link", "set", &far, "up"],
        ];
        let done = |step: &&[&str]| {
            Command::new("ip").args(*step).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        // Dropped, and so removed, when a later step fails.
        steps.iter().all(done).then_some(namespace)
    }

    /// Fetches a page from inside.
    fn fetch(&self, server: &Server, path: &str) -> Vec<u8> {
        let url = format!("http://{}{path}", server.public);
        let inside = ["netns", "exec", &self.name, "curl", "-sS", "--max-time", "10", &url];
        let output = Command::new("ip").args(inside).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).stderr(Stdio::null()).status();
    }
}

#[test]
fn a_large_page_goes_out_uncopied_until_the_kernel_copies_it_and_never_on_this_host() {
    let Some(namespace) = Namespace::new() else {
        eprintln!("left out: no network namespaces here (root and ip(8) are needed)");
        return;
    };
    if !Under::Uring.is_here() || Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("left out: no uring driver or no curl here");
        return;
    }
    let outer = tempfile::tempdir().unwrap();
    let (data, assets) = (outer.path().join("data"), outer.path().join("assets"));
    std::fs::create_dir(&assets).unwrap();
    // Incompressible, and told apart at every offset.
    let mut random = fastrand::Rng::with_seed(5);
    let page: Vec<u8> = (0..PAGE_BYTES).map(|_| random.u8(..)).collect();
    std::fs::write(assets.join("large.jpg"), &page).unwrap();
    let mut command = serve(&data, &format!("{}:0", namespace.address));
    command.args(["--demo", "--residents", "10", "--shards", "1", "--driver", "uring"]);
    command.env("ONECODE_ASSETS_DIR", &assets).env("ONECODE_ASSETS_FILE_BYTES_MAX", "1000000");
    let server = Server::start(command, &data, Some(outer));
    let counted = || (server.metric("onecode_zerocopy_sends_total"), server.metric("onecode_zerocopy_copies_total"));

    let mut local = Client::to(server.public);
    let answer = local.ask(get("/large.jpg", ""));
    assert_eq!((answer.status, answer.body == page), (200, true));
    assert_eq!(counted(), (0.0, 0.0), "the kernel copies on this host");

    assert!(namespace.fetch(&server, "/large.jpg") == page);
    support::wait_until("the kernel says what it did", || counted().1 > 0.0);
    let (sends, copies) = counted();
    assert!(sends >= 1.0 && copies >= 1.0);
    assert!(namespace.fetch(&server, "/large.jpg") == page);
    assert_eq!(counted().0, sends, "once it has copied, pages are sent as before");
    assert_eq!(server.stderr().matches("onecode: shard-0: the kernel copies all the same").count(), 1);
    assert_eq!(server.metric("onecode_ring_overflows_total"), 0.0);
    let (status, _) = server.stop();
    assert_eq!(status, Some(0));
}
