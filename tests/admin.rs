//! What operators and doors are promised, by the real process: writes that were acknowledged outlive it, and callers are
//! believed only by tokens that are theirs alone.

mod support;

use std::fs;
use std::process::Command;

use onecode::registry::demo;
use serde_json::json;
use support::process::{Server, onecode, run_badly, run_well};
use support::{Client, Host, PATIENCE_MS, REFRESH, SESSION, bearer, get, post, unix_s};

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let small = |command: &mut Command| {
        command.args(["--demo", "--residents", "200"]);
    };
    let id = demo::id_number(7);
    let id = std::str::from_utf8(id.as_bytes()).unwrap();
    let body = json!({"id_number": id, "status": "red", "version": unix_s() * 1_000 + 9_000}).to_string();
    let mut server = Server::over(folder.path(), small);
    let request = |path: &str| post(path, &body).replace("Host: test", "Host: 127.0.0.1");
    let answer = Client::to(server.admin).ask(request("/admin/residents"));
    assert_eq!(answer.text(), "{\"line\":1,\"result\":\"done\"}\n");
    let ended = server.session(8);
    assert_eq!(server.client().ask(get(SESSION, &bearer(&ended)).replace("GET", "DELETE")).status, 204);
    let token = fs::read_to_string(server.data().join("scanner-token.txt")).unwrap();
    let code = server.client().ask(server.refresh(7)).json()["code"].as_str().unwrap().to_owned();
    let id = "0189c1d2-3e4f-7a5b-8c6d-7e8f9a0b1c2d";
    let scan = json!({"code": code, "place": "gate", "id": id}).to_string();
    let scan = post("/scan/verify", &scan).replace("\r\n\r\n", &format!("\r\n{}\r\n", bearer(token.trim())));
    let verdict = server.client().ask(&scan).json();
    let told = [&verdict["result"], &verdict["status"], &verdict["env"], &verdict["recorded"]];
    assert_eq!(told, [&json!("valid"), &json!("red"), &json!("test"), &json!(true)]);
    assert_eq!(verdict["id"], id.replace('-', ""), "the scanner's own");
    server.signal("KILL");
    server.wait_end(PATIENCE_MS);
    let server = Server::over(folder.path(), small);
    assert_eq!(server.client().ask(server.refresh(7)).json()["status"], "red");
    assert_eq!(server.client().ask(get(REFRESH, &bearer(&ended))).problem(), "session-ended");
    let audit = Client::to(server.admin).ask(get("/admin/audit", "").replace("test\r\n", "127.0.0.1\r\n"));
    assert_eq!(audit.json()[0]["action"], "POST /admin/residents");
    let answer = Client::to(server.admin).ask(request("/admin/residents"));
    assert_eq!(answer.text(), "{\"line\":1,\"result\":\"ignored\"}\n");
}

#[test]
fn admin_tokens_are_believed_only_from_a_file_of_their_owners() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.toml");
    let config = folder.path().join("onecode.toml");
    fs::write(&config, format!("[admin]\ntokens_file = \"{}\"\naddress = \"0.0.0.0:8081\"\n", tokens.display()))
        .unwrap();
    let check = || run_badly(onecode().args(["check-config", "--config"]).arg(&config));
    let refuse = |named: &str| {
        let (status, told) = check();
        assert!(status == 78 && told.contains("tokens.toml") && told.contains(named), "{status}: {told}");
    };
    refuse("cannot be read");
    let hash = "0123456789abcdef".repeat(4);
    let token = format!("[[token]]\nname = \"lab\"\nscopes = [\"residents\"]\nsha256 = \"{hash}\"\n");
    fs::write(&tokens, &token).unwrap();
    let mode = |mode| {
        fs::set_permissions(&tokens, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    for readable in [0o644, 0o640, 0o604, 0o660] {
        mode(readable);
        refuse("make it 600");
    }
    mode(0o600);
    run_well(onecode().args(["check-config", "--config"]).arg(&config));
    fs::write(&tokens, token.replace("residents", "everything")).unwrap();
    refuse("unknown variant");
    fs::write(&tokens, "").unwrap();
    refuse("0 tokens");
}
