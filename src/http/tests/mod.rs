//! Tests of the head parser as a whole: by the sections of RFC 9112, and against another parser.

mod oracle;
mod rfc9112;
