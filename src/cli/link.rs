//! The link that the public listener sends through, as far as the kernel knows it.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};

use super::{Ended, Fatal};
use crate::config::Config;
use crate::limits::EGRESS_AUTO_PERCENT;

const KEY: &str = "bandwidth.egress_bits_per_s";

/// What may be sent, in bits a second; `None`: there is no bound.
pub(super) fn budget(config: &Config) -> Result<Option<u64>, Ended> {
    let Some(budget) = &config.egress_bits_per_s else { return Ok(None) };
    let address = config.listen_address.ip();
    let refused = |reason: String| Err((Fatal::Configuration, format!("{}: {reason}", config.place(KEY))));
    match (budget.parse(), speed_bits_per_s(address)) {
        (Err(_), None) => refused(format!("the kernel knows no speed of the link of {address}: say a number")),
        (Err(_), Some(speed)) => Ok(Some(speed / 100 * EGRESS_AUTO_PERCENT)),
        (Ok(bits), Some(speed)) if bits > speed => {
            refused(format!("{bits} is more than the {speed} of the link of {address}"))
        }
        (Ok(bits), _) => Ok(Some(bits)),
    }
}

/// The speed of the link with an address, or where that is of all the world's (Documentation/ABI/testing/sysfs-class-net).
fn speed_bits_per_s(address: IpAddr) -> Option<u64> {
    let name = interface(address)?;
    let speed_mbits = std::fs::read_to_string(format!("/sys/class/net/{name}/speed")).ok()?;
    // -1 where it is not known.
    speed_mbits.trim().parse::<u64>().ok().filter(|speed| *speed > 0).map(|speed| speed * 1_000_000)
}

/// The name of the interface that has this address, or leads to the world.
pub(super) fn interface(address: IpAddr) -> Option<String> {
    let address = if address.is_unspecified() { own_address()? } else { address.to_canonical() };
    let has = |of: &InterfaceAddress| {
        let storage = of.address.as_ref();
        let v4 = || storage?.as_sockaddr_in().map(|v4| IpAddr::from(Ipv4Addr::from(v4.ip())));
        let v6 = || storage?.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()));
        v4().or_else(v6) == Some(address)
    };
    getifaddrs().ok()?.find(has).map(|found| found.interface_name)
}

/// The address that this host has towards the world (RFC 5737 §3); nothing is sent.
pub(super) fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}
