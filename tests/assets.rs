//! An operator's pages as a client finds them: in parts, and by the name of their folder.

mod support;

use std::fs;

use support::process::Server;
use support::{Answer, Host, get, post};
use tempfile::TempDir;

/// A demo that serves these files, and the folder they lie in.
fn serving(files: &[(&str, &str)]) -> (Server, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let server = Server::demo_with(|command| {
        command.env("ONECODE_ASSETS_DIR", folder.path());
    });
    (server, folder)
}

#[test]
fn a_file_says_that_it_is_had_in_parts_and_is() {
    let (server, _folder) = serving(&[("a.txt", "0123456789")]);
    let ask = |fields: &str| server.client().ask(get("/a.txt", fields));
    let said = |answer: &Answer| (answer.status, answer.field("Accept-Ranges").map(str::to_owned));
    let bytes = Some("bytes".to_owned());
    let whole = ask("");
    assert_eq!((said(&whole), whole.text()), ((200, bytes.clone()), "0123456789"));
    let mut client = server.client();
    client.send(get("/a.txt", "").replace("GET", "HEAD"));
    assert_eq!(said(&client.answer_to_head()), (200, bytes.clone()));
    let etag = whole.field("ETag").unwrap();
    for (fields, range, part) in [
        ("Range: bytes=2-5\r\n".to_owned(), "bytes 2-5/10", "2345"),
        ("Range: bytes=-3\r\n".to_owned(), "bytes 7-9/10", "789"),
        (format!("Range: bytes=9-\r\nIf-Range: {etag}\r\n"), "bytes 9-9/10", "9"),
    ] {
        let answer = ask(&fields);
        assert_eq!((said(&answer), answer.text()), ((206, bytes.clone()), part), "{fields}");
        assert_eq!((answer.field("Content-Range"), answer.field("ETag")), (Some(range), Some(etag)), "{fields}");
    }
    for ignored in ["Range: bytes=0-1,3-4\r\n", "Range: lines=1-2\r\n", "Range: bytes=0-1\r\nIf-Range: \"other\"\r\n"] {
        assert_eq!((said(&ask(ignored)), ask(ignored).text()), ((200, bytes.clone()), "0123456789"), "{ignored}");
    }
    let outside = ask("Range: bytes=10-\r\n");
    assert_eq!((outside.status, outside.problem().as_str()), (416, "range-unsatisfiable"));
    assert_eq!(outside.field("Content-Range"), Some("bytes */10"));
}

#[test]
fn a_folder_without_its_last_slash_leads_to_its_page_with_what_was_asked() {
    let (server, _folder) = serving(&[("help/index.html", "<p>help"), ("help/a.txt", "a")]);
    let ask = |request: String| server.client().ask(request);
    assert_eq!(ask(get("/help/?a=b", "")).text(), "<p>help");
    for (query, location) in [("", "/help/"), ("?next=//evil.example", "/help/?next=//evil.example"), ("?", "/help/?")]
    {
        let answer = ask(get(&format!("/help{query}"), ""));
        assert_eq!((answer.status, answer.field("Location"), answer.text()), (308, Some(location), ""));
    }
    // As long as a request line lets it be, and several at once.
    let query = format!("?{}", "q".repeat(2_000));
    let mut client = server.client();
    for _ in 0..3 {
        let request = get(&format!("/help{query}"), "");
        client.send(request.repeat(2) + &request.replace("GET", "HEAD"));
        for answer in [client.answer(), client.answer(), client.answer_to_head()] {
            assert_eq!((answer.status, answer.field("Location")), (308, Some(&*format!("/help/{query}"))));
        }
    }
    assert_eq!(ask(get("/help", "").replace("GET", "OPTIONS")).status, 204);
    assert_eq!(ask(post("/help", "{}")).status, 405);
    for path in ["/help/a.txt/", "/hel", "//help", "/help//", "/person", "/assets"] {
        assert_eq!(ask(get(path, "")).status, 404, "{path}");
    }
}
