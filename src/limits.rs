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
