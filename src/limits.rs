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
/// The least share of the limit on open files that a public shard starts with; with less the process says so and ends.
pub const SHARD_CONNECTIONS_MIN: usize = 64;
/// Connections of a shard that are one too many and are told so (503) at a time; others are closed at once.
pub const REFUSED_CONNECTIONS_MAX: usize = 8;
/// A header of the PROXY protocol, extensions included.
pub const PROXY_BYTES_MAX: usize = 1_024;
/// Connections of the admin listener: their descriptors are kept back from the public shards.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Connections of the plain listener beside TLS, each of which ends with one short answer.
pub const REDIRECT_CONNECTIONS_MAX: usize = 1_024;
/// Descriptors of a shard beside its connections: listener, bell, ring or epoll, and the connection being refused.
pub const SHARD_DESCRIPTORS_MAX: usize = 8;
/// Descriptors of the process beside its shards': the lock, signals, and the files that SIGHUP reads.
pub const PROCESS_DESCRIPTORS_MAX: usize = 16;
/// Requests on one connection, after which the answer says `Connection: close`, so that load moves to where there is room.
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
/// A reader who takes nothing; the connection is reset. Longer than a window stays closed at the least rate.
pub const SEND_STALL_MS_MAX: u64 = 10_000;
/// The least rate of a reader, of all that is sent to him.
pub const SEND_LEAST_BYTES_PER_S: u64 = 500;
/// Deadlines that have passed and are looked at in one turn, some 20 µs each where a refusal is written.
pub const DEADLINES_A_TURN: usize = 32;
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

/// Payloads that one public shard keeps of the current window, 768 bytes each: 48 MiB. A resident who reloads meets his
/// own payload; three who share two places cost each other signatures.
pub const PAYLOAD_CACHE_SLOTS: usize = 65_536;
/// Signatures that may be kept ahead of their refreshes: 2 GiB.
pub const SIGNED_AHEAD_MAX: u32 = 1 << 24;
/// How long before its second a refresh is signed for.
pub const AHEAD_S: u64 = 1;
/// A code is good this long before and after its own times, for clocks that differ.
pub const LEEWAY_S: u64 = 60;
/// A foreign certificate once inflated; what is larger is malformed.
pub const DCC_BYTES_MAX: usize = 65_536;
/// Keys of one map in it; a certificate has a dozen.
pub const DCC_PAIRS_MAX: usize = 64;
/// Statements of one kind that are looked at; a certificate has one.
pub const DCC_STATEMENTS_MAX: usize = 8;

/// The most that `assets.file_bytes_max` can say: beyond it a file belongs elsewhere.
pub const ASSET_FILE_BYTES_MAX: u32 = 16 << 20;
/// The least that `assets.zerocopy_threshold_bytes` can say: a page of memory.
pub const ZEROCOPY_BYTES_MIN: u32 = 4 << 10;
/// The least room of a registry unless `registry.capacity` says otherwise: an empty one can take its first residents.
pub const REGISTRY_RESIDENTS_MIN: usize = 65_536;
/// The most that `registry.capacity` can say: more than any state has residents.
pub const REGISTRY_RESIDENTS_MAX: u32 = 2_000_000_000;
/// How full the registry is when the operator is warned, in percent: a city that grows by 2 % a year then has five years.
pub const REGISTRY_WARNING_PERCENT: u32 = 90;
/// Cells of 64 bytes that one step of the purge of test data looks at, 2 MiB: well below a millisecond.
pub const PURGE_CELLS_MAX: usize = 32_768;
// The registry's files.

/// A block of a snapshot that has a checksum of its own: what is named, and lost, when a disk has rotted.
pub const SNAPSHOT_BLOCK_BYTES: usize = 1 << 20;
/// Rows of 40 bytes in one segment of a snapshot, 4 MiB: what a loading thread holds, and what is written between syncs.
pub const SNAPSHOT_SEGMENT_ROWS_MAX: u64 = (4 << 20) / 40;
/// One write(2) of it: some 30 µs in the kernel, which a shard on the same CPU waits for.
pub const SNAPSHOT_WRITE_BYTES_MAX: usize = 64 << 10;
/// One row of a CSV file for `import`: of a longer one no more is kept in memory.
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
/// The manifest of a backup: of 400,000 segments, which are 25 TB of journal.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;
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
/// Used assertions that a shard remembers in each of its two generations, of 360 s at most: 637 sign-ins/s for each shard
/// without a pause. It is 7/8 of 2^18, at which a set of 2^18 slots of 17 bytes would grow. Beyond it sign-in is 503.
pub const USED_ASSERTIONS_MAX: usize = 229_376;

const _: () = assert!(CODE_LIFE_S_MAX >= 2 * CODE_WINDOW_S_MAX);

/// One send slot: the largest head and the largest answer copied rather than sent borrowed. A refresh is at most
/// 1 KiB, and a page of memory is what a slot costs anyway. An answer that does not fit is an error of ours (500).
pub const SEND_SLOT_BYTES: usize = 4_096;

// TLS.

/// A handshake message or a record that is not whole (RFC 8446 §5.2): the connection is closed beyond it.
pub const TLS_PENDING_BYTES_MAX: usize = 5 + 16_384 + 256;
/// A certificate with those above it: more than three of the longest keys.
pub const TLS_CHAIN_BYTES_MAX: usize = 12_288;
/// What one record holds (RFC 8446 §5.1), and one send: what a client that does not read keeps from us.
pub const TLS_RECORD_BYTES_MAX: usize = 16_384;
/// A buffer for one send: a record's worth in two records, head and body, with room for a ticket before them.
pub const TLS_WIRE_BYTES: usize = TLS_RECORD_BYTES_MAX + 1_024;
/// How long tickets are sealed with one key: 20,000 a second are a fifth of the 2^32 that it may (NIST SP 800-38D §8.3).
pub const TICKET_ROTATION_S: u32 = 43_200;
/// Keys that open tickets, the one that seals included: a phone that comes once a day still finds its own.
pub const TICKET_KEYS: usize = 3;
/// An operator is warned, once a day, when a certificate has less than this left.
pub const CERTIFICATE_WARNING_S: u64 = 30 * 86_400;

// Admission.

/// The age of work, when its turn comes, at which a shard begins to shed: what a person notices, a tenth of the deadline.
pub const DELAY_TARGET_MS: u64 = 100;
/// A queue that stands for so long is shed.
pub const DELAY_INTERVAL_MS: u64 = 100;
/// Requests served for each that is refused, which costs a fifth as much, or less: refusing takes 5 % of a shard.
pub const SERVED_A_REFUSAL: u64 = 4;
/// The longest that a connection is not read after a refusal.
pub const PAUSE_US_MAX: u64 = 8_000_000;
/// Connections that may wait to be accepted, of each listener: what a shard serves in a tenth of a second where each
/// begins with a handshake. Behind more of them people wait who have gone when their turn comes.
pub const BACKLOG: u32 = 1_024;
/// The same while new connections come faster than they are served, at most and at least: what was served in 20 ms.
pub const CROWDED_BACKLOG_MAX: u32 = 512;
/// Enough that a turn of the shard finds some.
pub const CROWDED_BACKLOG_MIN: u32 = 16;
/// Intervals without a queue that stands, or a full one of new connections, until as many may wait as before.
pub const CALM_INTERVALS: u32 = 20;
/// A handshake is begun for who has waited this part of the deadline: what follows it waits as long again, and costs less.
pub const HELLO_DEADLINE_PARTS: u64 = 4;
/// How long such hellos come before they are a queue. All that waited for one stall of the machine comes at once.
pub const HELLO_QUEUE_MS: u64 = 500;
/// How often a driver calls while requests are held or a governor refuses.
pub const ACTIVE_TICK_MS: u64 = 5;
/// What a connection may have in the kernel that is not sent (tcp(7), `TCP_NOTSENT_LOWAT`): what 100 Mbit/s carry in 10 ms.
pub const UNSENT_BYTES_MAX: u32 = 128 << 10;
/// A page that finds no room in the egress budget waits unread for so long, then it is refused.
pub const HELD_MS_MAX: u64 = 300;
/// A part of a long body, each of which waits for room.
pub const EGRESS_PIECE_BYTES: usize = 64 << 10;
/// What may be sent at once after a pause, at the budget's rate: 1 % of a second.
pub const EGRESS_BURST_US: u64 = 10_000;
/// What refreshes may owe the budget, at its rate; half of it asks for longer windows.
pub const EGRESS_DEBT_US_MAX: u64 = 1_000_000;
/// What an Ethernet segment carries.
pub const SEGMENT_BYTES: u64 = 1_448;
/// Its headers: Ethernet, IPv4, TCP with timestamps.
pub const SEGMENT_HEADER_BYTES: u64 = 66;
/// Sets of four callers, 64 bytes each, whose requests a shard counts: 1 MiB.
pub const RATE_SETS: usize = 1 << 14;
/// Requests without a session of one address while a governor refuses: three times what 20,000 residents ask in a minute.
pub const ADDRESS_REQUESTS_PER_MINUTE: u32 = 60_000;
/// Refreshes that are refused for so long, or take more than the budget, lengthen windows.
pub const BROWNOUT_AFTER_MS: u64 = 5_000;
/// The least that `bandwidth.egress_bits_per_s` can say.
pub const EGRESS_BITS_PER_S_MIN: u64 = 100_000;
/// Of a link's speed, in percent, what `auto` takes.
pub const EGRESS_AUTO_PERCENT: u64 = 90;
/// The most that a limit on requests a minute can say: a thousand a second.
pub const RATE_PER_MINUTE_MAX: u32 = 60_000;
/// The least that `admission.deadline_ms` can say: a queue must be able to stand and be shed before it.
pub const DEADLINE_MS_MIN: u32 = 500;
/// The most that it can say: longer than anybody waits.
pub const DEADLINE_MS_MAX: u32 = 60_000;

// The journal.

/// Records that wait in one shard's lane into the journal; beyond it a write is answered 503. At 50,000 records/s
/// through two shards it holds what arrives while a disk hangs for 300 ms; 0.2 MB for the queue, 1 MB of records.
pub const JOURNAL_LANE_RECORDS_MAX: usize = 8_192;
/// A text in a record: its length is one byte. A longer one is refused where it comes in.
pub const JOURNAL_TEXT_BYTES_MAX: usize = 255;
/// A record's kind and payload. The longest, a scan with three texts, is 818 bytes.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 1_024;

// Writes that come in.

/// One line of a streamed body (NDJSON), without its line end: that line alone is an error beyond it.
pub const STREAM_LINE_BYTES_MAX: usize = 4_096;
/// Lines of one connection that are read and not yet answered: three syncs of 5 ms may pass meanwhile at 60,000 lines/s.
pub const STREAM_LINES_MAX: usize = 1_024;
/// What all streams together may take of a turn of their shard: 16 scans, some 25 µs, which is what refreshes then wait.
pub const STREAM_SLICE_BYTES: usize = 2_048;
/// After so many slices in a row the journal's thread is woken, even if more are to come.
pub const STREAM_SLICES_A_RING: usize = 16;
/// No more is received before what has come of a stream is read down to this.
pub const STREAM_INPUT_BYTES_MAX: usize = 65_536;
/// How far a status or a scan may be dated ahead of this host's clock: it would shut out every later statement.
pub const VERSION_AHEAD_MS_MAX: u64 = 86_400_000;
/// No scan was made before 2020: an earlier time is one of another unit, or of a clock that nobody has set.
pub const SCAN_UNIX_MS_MIN: u64 = 1_577_836_800_000;
/// Changes of status that one shard remembers for look-ups; the older ones are in the journal. About 4 MB.
pub const HISTORY_CHANGES_MAX: usize = 16_384;
/// Operators' calls that are remembered for `GET /admin/audit`; the older ones are in the journal.
pub const AUDIT_ENTRIES_MAX: usize = 4_096;
/// Operators' calls that one `GET /admin/audit` gives where its `limit` says nothing.
pub const AUDIT_ENTRIES_DEFAULT: usize = 100;
/// Between two refusals of one caller that are written down: the rest are counted in the next one.
pub const AUDIT_REFUSAL_MS_MIN: u64 = 1_000;
/// A verdict waits this long for its record to be on disk, then it goes out unrecorded: a door does not wait longer.
pub const SCAN_RECORD_MS_MAX: u64 = 1_000;
/// How long writes of test residents are put off while all of them are being removed, should that never end.
pub const TEST_HOLD_MS_MAX: u64 = 10_000;
/// Named tokens of the admin listener.
pub const ADMIN_TOKENS_MAX: usize = 64;
/// The name of a caller of the admin listener.
pub const CALLER_NAME_BYTES_MAX: usize = 64;
/// `DELETE /admin/test-data` as a whole: every owner looks through its part of the table meanwhile.
pub const PURGE_MS_MAX: u64 = 60_000;
/// What every write to a segment begins and ends on: what direct I/O asks for on all common devices.
pub const JOURNAL_BLOCK_BYTES: usize = 4_096;
/// A batch, headers and padding included: 1,500 scans.
pub const JOURNAL_BATCH_BYTES_MAX: usize = 256 << 10;
/// A segment: some 130,000 scans. Written with zeros beforehand, read as a whole at recovery; each start begins one. Writes wait
/// for both while one process takes over from another, so it is short.
pub const JOURNAL_SEGMENT_BYTES: usize = 16 << 20;
/// Zeros written to the next segment after a batch, twice what that can be: the next one is ready before it is needed.
pub const JOURNAL_ZEROS_BYTES: usize = 2 * JOURNAL_BATCH_BYTES_MAX;
/// Records taken from one lane before the next one has its turn.
pub const JOURNAL_TURN_RECORDS: usize = 64;
/// With nothing to write for so long, the journal marks that all is on disk, which no damage can then undo unseen.
pub const JOURNAL_MARK_MS: u64 = 1_000;
/// How often a journal that changes underneath is read again before that is an error.
pub const JOURNAL_READINGS_MAX: u32 = 5;
/// Records written since the last fold, headers and padding included, after which the next one is due: some two
/// million statuses, which are applied again in about a second at start.
pub const JOURNAL_UNFOLDED_BYTES_MAX: u64 = 256 << 20;
/// A fold is due after so long, however little was written: nothing is kept longer than `journal.scan_days` for want of it.
pub const JOURNAL_FOLD_S_MAX: u64 = 86_400;
/// How long a fold waits for the shards to apply what is on disk, or for a segment to be ended, before it is put off.
pub const JOURNAL_FOLD_WAIT_MS_MAX: u64 = 30_000;
/// Of the time of a fold's thread, so many parts in a hundred are work; the rest it sleeps, and lets others at the disk.
pub const JOURNAL_FOLD_PERCENT: u32 = 20;
/// The least that `journal.disk_bytes_max` can say: some segments and the two that are always there.
pub const JOURNAL_DISK_BYTES_MIN: u64 = 512 << 20;
/// Of `journal.disk_bytes_max`, so many parts in a hundred are kept for statuses, look-ups and removals: scans, which any
/// door can send without end, may not use them. At the least that the key can say, one segment and some.
pub const JOURNAL_RESERVE_PERCENT: u64 = 15;
/// How far the clock may have leapt ahead since the last fold for scans to be deleted by it at once.
pub const JOURNAL_LEAP_MS_MAX: u64 = 86_400_000;
/// How long the end of the process waits at least for a disk that does not answer, once all requests are answered.
pub const JOURNAL_END_MS_MAX: u64 = 1_000;
/// How often the shards are asked whether they live.
pub const WATCH_MS: u64 = 1_000;
/// Times in a row that one may be found not to have answered.
pub const SILENT_WATCHES_MAX: u32 = 10;
/// How long a process that takes over may load; meanwhile nothing is folded.
pub const TAKEOVER_LOAD_MS_MAX: u64 = 600_000;
/// How long each side of a takeover waits for the other once no writes are taken.
pub const TAKEOVER_STEP_MS_MAX: u64 = 30_000;
/// The most that `journal.scan_days` can say.
pub const JOURNAL_SCAN_DAYS_MAX: u32 = 3_650;
