//! The same endpoint by someone who knows what they are doing, still on axum: aws-lc-rs, no formatting, payloads cached
//! for their window, and the symbol by the `qrcode` crate's low-level calls at a fixed version and mask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::signature::Ed25519KeyPair;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, extract::State, routing::get};
use base64::{Engine, engine::general_purpose::STANDARD};

/// As many as the server keeps a shard, direct-mapped like those.
const CACHE_SLOTS: usize = 65_536;
const FIELDS: [(HeaderName, HeaderValue); 2] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
];

struct Server {
    sessions: HashMap<[u8; peers::SESSION_BYTES], u32>,
    key: Ed25519KeyPair,
    cache: Mutex<Vec<Option<(u32, peers::Times, Bytes)>>>,
}

fn main() {
    let options = peers::Options::from_arguments();
    let session = |(number, token): (u32, &[u8])| Some((token.try_into().ok()?, number));
    let sessions = (1..).zip(options.sessions()).filter_map(session).collect();
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes are a seed");
    let server = Arc::new(Server { sessions, key, cache: Mutex::new(vec![None; CACHE_SLOTS]) });
    let router = Router::new().route("/person/app/refreshQRCode", get(refresh).post(refresh)).with_state(server);
    peers::serve(options.port, router);
}

async fn refresh(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let token = peers::bearer(&headers).and_then(|token| token.as_bytes().try_into().ok());
    let number = token.and_then(|token: [u8; peers::SESSION_BYTES]| server.sessions.get(&token).copied());
    let Some(number) = number else { return StatusCode::UNAUTHORIZED.into_response() };
    let times = peers::Times::now(number);
    // A thread alone never waits for this lock.
    let mut cache = server.cache.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = &mut cache[number as usize % CACHE_SLOTS];
    let payload = match slot {
        Some((cached, of, payload)) if *cached == number && *of == times => payload.clone(),
        _ => {
            let payload = make(&server.key, number, times);
            *slot = Some((number, times, payload.clone()));
            payload
        }
    };
    drop(cache);
    let mut response = Response::new(Body::from(payload));
    response.headers_mut().extend(FIELDS);
    response
}

fn make(key: &Ed25519KeyPair, number: u32, times: peers::Times) -> Bytes {
    let (word, status) = peers::status(number);
    let mut bytes = peers::claims(number, status, times);
    let signature = key.sign(&bytes);
    bytes.extend_from_slice(&[0x58, 0x40]);
    bytes.extend_from_slice(signature.as_ref());
    let code = peers::text(&bytes);
    let bits = peers::bits(&peers::fixed_symbol(&code));

    let mut body = String::with_capacity(768);
    body.push_str("{\"code\":\"");
    body.push_str(std::str::from_utf8(&code).expect("Base45 is ASCII"));
    body.push_str("\",\"status\":\"");
    body.push_str(word);
    body.push('"');
    body.push_str(&"       "[word.len()..]);
    for (name, value) in [(",\"iat\":", times.iat), (",\"exp\":", times.exp), (",\"refresh_at\":", times.refresh_at)] {
        body.push_str(name);
        push_number(&mut body, value);
    }
    body.push_str(",\"env\":\"test\",\"qr\":{\"size\":49,\"bits\":\"");
    STANDARD.encode_string(bits, &mut body);
    body.push_str("\"}}");
    Bytes::from(body)
}

fn push_number(body: &mut String, value: u32) {
    if value >= 10 {
        push_number(body, value / 10);
    }
    body.push(char::from(b'0' + (value % 10) as u8));
}
