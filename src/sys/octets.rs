//! Sixteen octets looked at side by side. The compiler makes vector instructions of it; the one that it does not find by
//! itself, a bit of each octet in one number, is asked for by name.

/// Sixteen octets; or what was found out about each: all of its bits set, or none.
#[derive(Clone, Copy)]
pub struct Octets([u8; 16]);

impl Octets {
    /// These.
    #[inline(always)]
    pub fn of(bytes: &[u8; 16]) -> Octets {
        Octets(*bytes)
    }

    /// Which of them lie between two octets, both included.
    #[inline(always)]
    pub fn within(self, first: u8, last: u8) -> Octets {
        Octets(self.0.map(|octet| if octet.wrapping_sub(first) <= last - first { 0xff } else { 0 }))
    }

    /// With the bits of `other` set as well.
    #[inline(always)]
    pub fn or(self, other: Octets) -> Octets {
        Octets(std::array::from_fn(|place| self.0[place] | other.0[place]))
    }

    /// The top bit of each, the first one's lowest.
    #[inline(always)]
    pub fn top_bits(self) -> u16 {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_mm_loadu_si128, _mm_movemask_epi8};
            // SAFETY: the array is good for 16 bytes, the load asks for no alignment, and every x86-64 has SSE2.
            let octets = unsafe { _mm_loadu_si128(self.0.as_ptr().cast()) };
            // SAFETY: every x86-64 has SSE2.
            unsafe { _mm_movemask_epi8(octets) as u16 }
        }
        #[cfg(not(target_arch = "x86_64"))]
        self.0.into_iter().rev().fold(0, |bits, octet| bits << 1 | u16::from(octet >> 7))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_octet_is_found_by_itself_and_in_its_place() {
        for octet in 0..=255_u8 {
            for (first, last) in [(0, 0), (0, 0x1f), (b'a', b'z'), (0x7f, 0x7f), (0x80, 0xff), (0, 0xff)] {
                for place in 0..16 {
                    let mut bytes = [if first == 0 { 0xff } else { 0 }; 16];
                    bytes[place] = octet;
                    let found = Octets::of(&bytes).within(first, last);
                    let rest = if last == 0xff && first == 0 { !(1 << place) } else { 0 };
                    let bit = u16::from((first..=last).contains(&octet)) << place;
                    assert_eq!(found.top_bits(), bit | rest, "{octet} in {first}..={last} at {place}");
                    assert_eq!(found.or(Octets::of(&[0x80; 16])).top_bits(), 0xffff);
                }
            }
        }
    }
}
