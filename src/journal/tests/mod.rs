//! The journal against a hostile disk.

mod crash;
mod damage;
mod disk;
mod machine;
mod real;
