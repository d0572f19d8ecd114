//! Defines the id of a message that says where it is stored.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A text that is no offset message id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an offset message id has 32 or 56 hexadecimal digits")]
pub struct OffsetMessageIdError;

/// Where a message is stored: the broker and its physical offset there. As text it is 32 hexadecimal digits, or 56 with an
/// IPv6 address. The response to a send has one, and clients read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetMessageId {
    /// Address of the broker.
    pub host: SocketAddr,
    /// Position in the broker's log.
    pub physical_offset: i64,
}

impl fmt::Display for OffsetMessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.ip() {
            IpAddr::V4(ip) => write!(formatter, "{:08X}", u32::from(ip))?,
            IpAddr::V6(ip) => write!(formatter, "{:032X}", u128::from(ip))?,
        }
        let port = u32::from(self.host.port());
        write!(formatter, "{port:08X}{:016X}", self.physical_offset)
    }
}

impl FromStr for OffsetMessageId {
    type Err = OffsetMessageIdError;

    fn from_str(text: &str) -> Result<Self, OffsetMessageIdError> {
        let address = match text.len() {
            32 => 8,
            56 => 32,
            _ => return Err(OffsetMessageIdError),
        };
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(OffsetMessageIdError);
        }
        let number = |start: usize, end: usize| {
            let digits = text.get(start..end).ok_or(OffsetMessageIdError)?;
            u128::from_str_radix(digits, 16).map_err(|_| OffsetMessageIdError)
        };
        let bits = number(0, address)?;
        let ip = match u32::try_from(bits) {
            Ok(bits) if address == 8 => IpAddr::from(Ipv4Addr::from(bits)),
            _ => IpAddr::from(Ipv6Addr::from(bits)),
        };
        let port =
            u16::try_from(number(address, address + 8)?).map_err(|_| OffsetMessageIdError)?;
        let offset =
            u64::try_from(number(address + 8, address + 24)?).map_err(|_| OffsetMessageIdError)?;
        Ok(Self {
            host: SocketAddr::new(ip, port),
            physical_offset: offset.cast_signed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_is_read_as_it_was_written(ip in any::<IpAddr>(), port in any::<u16>(), physical_offset in any::<i64>()) {
            let id = OffsetMessageId { host: SocketAddr::new(ip, port), physical_offset };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn the_text_is_that_of_the_protocol() {
        let id = OffsetMessageId {
            host: ([127, 0, 0, 1], 10_911).into(),
            physical_offset: 0x1_0002,
        };
        assert_eq!(id.to_string(), "7F00000100002A9F0000000000010002");
        for wrong in [
            "",
            "7F",
            "7F00000100002A9F000000000001000G",
            "7F000001FFFFFFFF0000000000010002",
        ] {
            assert_eq!(
                wrong.parse::<OffsetMessageId>(),
                Err(OffsetMessageIdError),
                "{wrong}"
            );
        }
    }
}
