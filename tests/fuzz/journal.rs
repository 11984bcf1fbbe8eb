//! The reading half of the journal, compiled once more: the library keeps it to itself, and a damaged disk is among
//! what it must withstand. Whoever includes this has `limits`, `sys` and `words` of the library in its root.

#![allow(dead_code, reason = "the writing half is not here")]

#[path = "../../src/journal/record.rs"]
pub mod record;
#[path = "../../src/journal/recover.rs"]
pub mod recover;
#[path = "../../src/journal/segment.rs"]
pub mod segment;
