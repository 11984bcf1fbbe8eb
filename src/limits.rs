//! Every limit of the server, each with its unit in the name and the reason for its value.
//!
//! What two honest sites would set differently is a key of the configuration instead; everything else is here, and
//! reaching it gives the clear answer named beside it.

/// Request line, method to CRLF: 414 beyond it.
pub const REQUEST_LINE_BYTES_MAX: usize = 2_048;
/// A whole head, request line and fields with all line ends: 431 beyond it.
pub const HEAD_BYTES_MAX: usize = 8_192;
/// Field lines in one head: 431 beyond it.
pub const HEAD_FIELDS_MAX: usize = 64;
/// A request body where the route names no other bound: 413 beyond it.
pub const BODY_BYTES_MAX: usize = 4_096;
/// Chunk extensions and trailers of one chunked body, together: 400 beyond it.
pub const CHUNK_OVERHEAD_BYTES_MAX: usize = 1_024;

/// Connections of one shard; the next one is closed at once. At 1 KiB of ours each, 64 MiB.
pub const SHARD_CONNECTIONS_MAX: usize = 65_536;
/// Requests on one connection, after which the answer says `Connection: close`, so that load moves to where there is
/// room after a restart or a change of route.
pub const CONNECTION_REQUESTS_MAX: u32 = 10_000;
/// Age of a connection at which the next answer says `Connection: close`.
pub const CONNECTION_AGE_MS_MAX: u64 = 600_000;
/// Nothing asked: the connection is closed.
pub const IDLE_MS_MAX: u64 = 15_000;
/// Nothing asked while the process is ending. Long enough for a request that is already on its way.
pub const DRAIN_IDLE_MS_MAX: u64 = 500;
/// The process ends at the latest this long after it was told to, whatever is still in flight.
pub const DRAIN_MS_MAX: u64 = 10_000;
/// A whole head, counted from its first byte and not put back by progress: 408 beyond it.
pub const HEAD_MS_MAX: u64 = 5_000;
/// A body, besides the time its bytes earn at the least rate: 408 beyond it.
pub const BODY_MS_MAX: u64 = 5_000;
/// The least rate of a body.
pub const BODY_LEAST_BYTES_PER_S: u64 = 500;
/// A send that does not end, besides the time its bytes earn at the least rate: the connection is closed.
pub const SEND_STALL_MS_MAX: u64 = 5_000;
/// The least rate of a reader.
pub const SEND_LEAST_BYTES_PER_S: u64 = 500;
/// Another shard's answer to what a request needs of it: 503 beyond it.
pub const ANSWER_MS_MAX: u64 = 5_000;
/// How long a connection that was refused is read on, so that closing does not reset the refusal (RFC 9112 §9.6).
pub const LINGER_MS_MAX: u64 = 800;
/// How much of it is read on.
pub const LINGER_BYTES_MAX: usize = 262_144;
/// One receive.
pub const RECEIVE_BYTES_MAX: usize = 2_048;
/// Room that must be left in a send slot before a request is handled: no head with its inline body is longer.
pub const INLINE_ANSWER_BYTES_MAX: usize = 1_536;

/// Payloads that one shard keeps of the current window; 1 KiB each, touched as they are used. A resident who reloads
/// meets his own payload; two who share a place cost each other one signature.
pub const PAYLOAD_CACHE_SLOTS: usize = 65_536;
/// A code is good this long before and after its own times, for clocks that differ.
pub const LEEWAY_S: u64 = 60;

/// A file of the operator's own pages on the wire, unless `assets.file_bytes_max` says otherwise: what a first
/// congestion window of ten segments carries (RFC 6928), so that a page costs one round trip, and a city's line holds.
pub const ASSET_FILE_BYTES_DEFAULT: u32 = 14_000;
/// The most that `assets.file_bytes_max` can say: beyond it a file belongs elsewhere.
pub const ASSET_FILE_BYTES_MAX: u32 = 16 << 20;

/// The least that a registry has room for, so that an empty one can take its first residents.
pub const REGISTRY_RESIDENTS_MIN: usize = 65_536;
// The registry's files.

/// A block of a snapshot that has a checksum of its own: what is named, and lost, when a disk has rotted.
pub const SNAPSHOT_BLOCK_BYTES: usize = 1 << 20;
/// Rows of 40 bytes in one segment of a snapshot, 16 MiB: what a loader holds in memory beside the table.
pub const SNAPSHOT_SEGMENT_ROWS_MAX: u64 = (16 << 20) / 40;
/// One row of a CSV file for `import`, beyond which a quote was left open and would swallow the rest of the file.
pub const IMPORT_ROW_BYTES_MAX: u64 = 4_096;
// Configuration and sign-in.

/// The shortest window, in seconds: below it a page spends more on asking than on showing.
pub const CODE_WINDOW_S_MIN: u32 = 5;
/// The longest window, in seconds: the last level that the node lengthens windows to under pressure.
pub const CODE_WINDOW_S_MAX: u32 = 300;
/// The longest life of a code, in seconds: the last level again. Two windows fit into it, see the assertion below.
pub const CODE_LIFE_S_MAX: u32 = 600;
/// An issuer's name in bytes. A code of this issuer with `nbf` (a pack's, the longest kind) still is a version 8
/// symbol: 221 characters at most, of which 9 bytes of issuer leave room for 5 more.
pub const ISSUER_BYTES_MAX: usize = 14;
/// The longest session, in days: a year, after which the issuer of identities is asked again.
pub const SESSION_DAYS_MAX: u32 = 365;
/// CPU numbers and shards: the kernel's `CPU_SETSIZE` (`sched_setaffinity(2)`), beyond which a set cannot name them.
pub const CPUS_MAX: u16 = 1_024;
/// A configuration file or a JWKS: both are written by hand or by one tool, and a larger one is the wrong file.
pub const CONFIG_FILE_BYTES_MAX: u64 = 256 * 1_024;
/// Keys that are kept of a JWKS. Bounds the signatures one assertion without `kid` can make the server check.
pub const JWKS_KEYS_MAX: usize = 16;
/// An assertion: an RS256 signature by the largest key (8,192 bits) is 1,366 characters, the rest is claims.
pub const ASSERTION_BYTES_MAX: usize = 3 * 1_024;
/// `exp - iat` of an assertion, in seconds: how long a stolen one is worth something.
pub const ASSERTION_LIFE_S_MAX: u64 = 300;
/// How far an assertion's issuer may run ahead of this host, in seconds: the leeway of codes, too.
pub const ASSERTION_AHEAD_S_MAX: u64 = 60;
/// The claim that names the person: an ID number is 18 bytes, other countries' are longer.
pub const ID_CLAIM_BYTES_MAX: usize = 64;
/// Used assertions that a shard remembers in each of its two generations. A generation holds what arrived in at most
/// `ASSERTION_LIFE_S_MAX + ASSERTION_AHEAD_S_MAX` = 360 s, so this is 637 sign-ins/s for each shard without a pause:
/// ten million residents on two shards in 2 h 11 min. It is 7/8 of 2^18, the load at which the set of 2^18 slots of
/// 17 bytes (4.5 MB, touched as it fills) would grow. Beyond it sign-in answers 503.
pub const USED_ASSERTIONS_MAX: usize = 229_376;

const _: () = assert!(CODE_LIFE_S_MAX >= 2 * CODE_WINDOW_S_MAX);

/// One send slot: the largest head and the largest answer copied rather than sent borrowed. A refresh is at most
/// 1 KiB, and a page of memory is what a slot costs anyway. An answer that does not fit is an error of ours (500).
pub const SEND_SLOT_BYTES: usize = 4_096;
