//! The obvious server: axum, dashmap, ed25519-dalek, the `qrcode` crate as its front page shows it, serde. Every
//! request makes its code anew.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, extract::State, routing::get};
use base64::{Engine, engine::general_purpose::STANDARD};
use dashmap::DashMap;
use ed25519_dalek::{Signer, SigningKey};
use qrcode::{EcLevel, QrCode};
use serde::Serialize;

struct Server {
    sessions: DashMap<String, u32>,
    key: SigningKey,
}

#[derive(Serialize)]
struct Payload {
    code: String,
    status: String,
    iat: u32,
    exp: u32,
    refresh_at: u32,
    env: &'static str,
    qr: Symbol,
}

#[derive(Serialize)]
struct Symbol {
    size: usize,
    bits: String,
}

fn main() {
    let options = peers::Options::from_arguments();
    let session = |(number, token): (u32, &[u8])| (String::from_utf8_lossy(token).into_owned(), number);
    let sessions = (1..).zip(options.sessions()).map(session).collect();
    let server = Arc::new(Server { sessions, key: SigningKey::from_bytes(&[7; 32]) });
    let router = Router::new().route("/person/app/refreshQRCode", get(refresh).post(refresh)).with_state(server);
    peers::serve(options.port, router);
}

async fn refresh(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let number = peers::bearer(&headers).and_then(|token| server.sessions.get(token).map(|number| *number));
    let Some(number) = number else { return StatusCode::UNAUTHORIZED.into_response() };
    let (word, status) = peers::status(number);
    let times = peers::Times::now(number);
    let mut bytes = peers::claims(number, status, times);
    let signature = server.key.sign(&bytes);
    bytes.extend_from_slice(&[0x58, 0x40]);
    bytes.extend_from_slice(&signature.to_bytes());
    let code = String::from_utf8(peers::text(&bytes)).expect("Base45 is ASCII");
    let Ok(symbol) = QrCode::with_error_correction_level(&code, EcLevel::M) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let bits = STANDARD.encode(peers::bits(&symbol.to_colors()));
    let payload = Payload {
        code,
        // Of one length whatever it says, as the server's; serde leaves no room outside the quotes.
        status: format!("{word:7}"),
        iat: times.iat,
        exp: times.exp,
        refresh_at: times.refresh_at,
        env: "test",
        qr: Symbol { size: symbol.width(), bits },
    };
    ([(header::CACHE_CONTROL, "private, no-store")], Json(payload)).into_response()
}
